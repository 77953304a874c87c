package dsql_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql"
)

// newPoolFromURL is the whole way from a URL to a pool.
func newPoolFromURL(ctx context.Context, url string) (*pgxpool.Pool, error) {
	cfg, err := dsql.ParseURL(url)
	if err != nil {
		return nil, err
	}
	connector, err := dsql.NewConnector(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return pgxpool.NewWithConfig(ctx, connector.PoolConfig())
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
	pool, err := pgxpool.NewWithConfig(ctx, connector.PoolConfig())
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
