package dsql_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"log/slog"
	"os"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/occ"
)

// local starts a local cluster for an example. A real one needs its endpoint and no options.
func local(ctx context.Context, opts ...dsqltest.Option) *dsqltest.Cluster {
	c, err := dsqltest.Run(ctx, opts...)
	if err != nil {
		log.Fatal(err)
	}
	return c
}

// Open a pool, create a table, and transfer money in a transaction that is retried on conflict.
func Example() {
	ctx := context.Background()
	c := local(ctx)
	defer c.Close()

	pool, err := dsql.NewPool(ctx, c.Endpoint(), c.Region(), c.Options()...)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	for _, sql := range []string{
		"CREATE TABLE account (name text PRIMARY KEY, balance bigint NOT NULL)",
		"INSERT INTO account VALUES ('alice', 100), ('bob', 0)",
	} {
		if _, err := pool.Exec(ctx, sql); err != nil {
			log.Fatal(err, "\n", dsql.Explain(err))
		}
	}
	err = occ.RunTx(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "UPDATE account SET balance = balance - 30 WHERE name = 'alice'"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "UPDATE account SET balance = balance + 30 WHERE name = 'bob'")
		return err
	})
	if err != nil {
		log.Fatal(err, "\n", dsql.Explain(err))
	}
	var balance int64
	if err := pool.QueryRow(ctx, "SELECT balance FROM account WHERE name = 'bob'").Scan(&balance); err != nil {
		log.Fatal(err)
	}
	fmt.Println(balance)
	// Output: 30
}

func ExampleNewPool() {
	ctx := context.Background()
	c := local(ctx)
	defer c.Close()

	pool, err := dsql.NewPool(ctx, c.Endpoint(), c.Region(), c.Options()...)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	if err := pool.Ping(ctx); err != nil { // the first connection
		log.Fatal(err, "\n", dsql.Explain(err))
	}
	fmt.Println(pool.Stat().TotalConns())
	// Output: 1
}

func ExampleConnect() {
	ctx := context.Background()
	c := local(ctx)
	defer c.Close()

	conn, err := dsql.Connect(ctx, c.Endpoint(), c.Region(), c.Options()...)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)
	var role string
	if err := conn.QueryRow(ctx, "SELECT current_user").Scan(&role); err != nil {
		log.Fatal(err)
	}
	fmt.Println(role)
	// Output: admin
}

func ExampleOpenDB() {
	ctx := context.Background()
	c := local(ctx)
	defer c.Close()

	db, err := dsql.OpenDB(ctx, c.Endpoint(), c.Region(), c.Options()...)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	var sum int
	if err := db.QueryRowContext(ctx, "SELECT $1::int + $2::int", 1, 2).Scan(&sum); err != nil {
		log.Fatal(err)
	}
	fmt.Println(sum)
	// Output: 3
}

// One Connector serves pools, single connections and database/sql.
func ExampleNewConnector() {
	ctx := context.Background()
	c := local(ctx)
	defer c.Close()

	cfg := dsql.Config{Endpoint: c.Endpoint(), Region: c.Region()}
	connector, err := dsql.NewConnector(ctx, cfg, c.Options()...)
	if err != nil {
		log.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	fmt.Println(db.PingContext(ctx))
	// Output: <nil>
}

func ExampleRegisterDriver() {
	if err := dsql.RegisterDriver("dsql"); err != nil {
		log.Fatal(err)
	}
	db, err := sql.Open("dsql", "postgres://app@abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws/postgres?search_path=app")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	fmt.Println(db.Stats().OpenConnections)
	// Output: 0
}

func ExampleIsAccessDenied() {
	ctx := context.Background()
	c := local(ctx)
	defer c.Close()

	_, err := dsql.Connect(ctx, c.Endpoint(), c.Region(), append(c.Options(), dsql.WithUser("app"))...)
	fmt.Println(dsql.IsAccessDenied(err))
	// Output: true
}

func ExampleIsConnectLimit() {
	ctx := context.Background()
	c := local(ctx)
	defer c.Close()

	c.RefuseConnections("53400")
	_, err := dsql.Connect(ctx, c.Endpoint(), c.Region(), c.Options()...)
	fmt.Println(dsql.IsConnectLimit(err))
	// Output: true
}

func ExampleWithRuntimeParam() {
	ctx := context.Background()
	endpoint := "abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws"
	pool, err := dsql.NewPool(ctx, endpoint, "", dsql.WithUser("app"), dsql.WithRuntimeParam("search_path", "app"))
	if err != nil {
		slog.Error("opening the pool", "error", err)
		return
	}
	defer pool.Close()
}

// newPoolFromURL opens a pool for a URL.
func newPoolFromURL(ctx context.Context, url string) (*pgxpool.Pool, error) {
	cfg, err := dsql.ParseURL(url)
	if err != nil {
		return nil, err
	}
	connector, err := dsql.NewConnector(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return connector.NewPool(ctx)
}

func ExampleParseURL() {
	cfg, err := dsql.ParseURL("postgres://app@abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws/postgres?search_path=app&pool_max_conns=20")
	fmt.Println(cfg, err)
	fmt.Println(cfg.URL())
	_, err = dsql.ParseURL("postgres://app@abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws/postgres?serch_path=app")
	fmt.Println(err)
	// Output:
	// dsql.Config{app at abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws} <nil>
	// postgres://app@abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws/postgres?pool_max_conns=20&search_path=app
	// dsql: the URL has an unknown parameter "serch_path"; the nearest known one is search_path (session parameters go into options=-c name=value)
}

func ExampleParseURL_pool() {
	pool, err := newPoolFromURL(context.Background(), os.Getenv("DATABASE_URL"))
	if err != nil {
		slog.Error("opening the pool", "error", err)
		return
	}
	defer pool.Close()
}

func ExampleFromEnv() {
	ctx := context.Background()
	cfg, err := dsql.FromEnv()
	if err != nil {
		slog.Error("configuration", "error", err) // DSQL_ENDPOINT is not set
		return
	}
	connector, err := dsql.NewConnector(ctx, cfg)
	if err != nil {
		slog.Error("configuration", "error", err)
		return
	}
	pool, err := connector.NewPool(ctx)
	if err != nil {
		slog.Error("configuration", "error", err)
		return
	}
	defer pool.Close()
}

func ExampleNewPool_options() {
	ctx := context.Background()
	endpoint := "abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws"
	pool, err := dsql.NewPool(ctx, endpoint, "",
		dsql.WithUser("app"),
		dsql.WithRuntimeParam("search_path", "app"),
		dsql.WithRuntimeParam("application_name", "orders"),
		dsql.WithLogger(slog.Default()),
		dsql.WithPoolConfig(func(p *pgxpool.Config) error {
			p.MaxConns = 20
			p.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeDescribeExec
			return nil
		}))
	if err != nil {
		slog.Error("opening the pool", "error", err)
		return
	}
	defer pool.Close()
}

func ExampleWithProfile() {
	ctx := context.Background()
	endpoint := "abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws"
	pool, err := dsql.NewPool(ctx, endpoint, "", dsql.WithUser("app"), dsql.WithProfile("dev"))
	if err != nil {
		slog.Error("opening the pool", "error", err)
		return
	}
	defer pool.Close()
}

func ExampleWithCredentials_assumeRole() {
	ctx := context.Background()
	endpoint := "abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws"
	awsConfig, err := config.LoadDefaultConfig(ctx, config.WithRegion("us-east-1"))
	if err != nil {
		slog.Error("loading the AWS configuration", "error", err)
		return
	}
	role := stscreds.NewAssumeRoleProvider(sts.NewFromConfig(awsConfig), "arn:aws:iam::210987654321:role/dsql-app")
	pool, err := dsql.NewPool(ctx, endpoint, "", dsql.WithUser("app"), dsql.WithCredentials(role))
	if err != nil {
		slog.Error("opening the pool", "error", err)
		return
	}
	defer pool.Close()
}

func ExampleWithDialAddress_tunnel() {
	ctx := context.Background()
	endpoint := "abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws"
	pool, err := dsql.NewPool(ctx, endpoint, "", dsql.WithDialAddress("127.0.0.1:15432"))
	if err != nil {
		slog.Error("opening the pool", "error", err)
		return
	}
	defer pool.Close()
}

func ExampleWithDialAddress_vpcEndpoint() {
	ctx := context.Background()
	endpoint := "abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws"
	pool, err := dsql.NewPool(ctx, endpoint, "",
		dsql.WithDialAddress("vpce-0a1b2c3d4e5f.dsql-fnh4.us-east-1.vpce.amazonaws.com"))
	if err != nil {
		slog.Error("opening the pool", "error", err)
		return
	}
	defer pool.Close()
}

func ExampleExplain() {
	ctx := context.Background()
	endpoint := "abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws"
	pool, err := dsql.NewPool(ctx, endpoint, "", dsql.WithUser("app"))
	if err != nil {
		slog.Error("opening the pool", "error", err)
		return
	}
	defer pool.Close()
	if err := pool.Ping(ctx); err != nil {
		slog.Error("ping", "error", err, "explanation", dsql.Explain(err))
	}
}

func ExampleWithFailover() {
	open := func(ctx context.Context, endpoint, peer string) error {
		pool, err := dsql.NewPool(ctx, endpoint, "",
			dsql.WithFailover(peer, ""),
			dsql.WithNearestFirst())
		if err != nil {
			return err
		}
		defer pool.Close()
		return pool.Ping(ctx)
	}
	_ = open
}
