// Command run runs the records of dsqltest against a real cluster, as admin, with the AWS
// credentials of the environment, and compares its answers with them and with those of a local
// cluster. make conformance DSQL_ENDPOINT=… runs it; docs/conformance.md describes it.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/internal/conformance"
)

func main() {
	var o options
	flag.BoolVar(&o.clean, "clean", false, "drop what interrupted runs have left on the cluster, and end")
	flag.BoolVar(&o.confirmed, "yes", false, "begin without asking")
	flag.StringVar(&o.records, "records", "dsqltest/testdata/conformance,dsqltest/testdata/scenarios", "directories of the records")
	flag.StringVar(&o.dir, "dir", "dsqltest/testdata/clusters", "directory for the answers")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		if why := dsql.Explain(err); why != "" {
			fmt.Fprintln(os.Stderr, why)
		}
		os.Exit(1)
	}
}

type options struct {
	clean, confirmed bool
	records, dir     string
}

func run(ctx context.Context, o options, in io.Reader, out io.Writer) error {
	cfg, err := config()
	if err != nil {
		return err
	}
	connector, err := dsql.NewConnector(ctx, cfg)
	if err != nil {
		return err
	}
	cluster := of(cfg)
	if o.clean {
		left, err := cluster.Leftovers(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "dropping %d schemas %v\n", len(left), left)
		return cluster.Drop(ctx, left...)
	}
	files, err := conformance.Load(strings.Split(o.records, ",")...)
	if err != nil {
		return err
	}
	local, err := dsqltest.Run(ctx)
	if err != nil {
		return err
	}
	defer local.Close()
	endpoint := connector.Endpoints()[0]
	report, path, err := conformance.Campaign{
		Cluster: cluster, Local: of(local.Config()), Endpoint: endpoint.Endpoint, Region: endpoint.Region,
		Files: files, Dir: o.dir, Confirmed: o.confirmed, In: in, Out: out,
	}.Run(ctx)
	if err != nil {
		return err
	}
	report.Print(out)
	fmt.Fprintf(out, "answers: %s (docs/conformance.md says how to contribute it)\n", path)
	return nil
}

// config returns the configuration of the environment. DSQL_ENDPOINT may be a URL too, which
// reaches clusters behind a tunnel.
func config() (cfg dsql.Config, err error) {
	if given := os.Getenv("DSQL_ENDPOINT"); strings.Contains(given, "://") {
		cfg, err = dsql.ParseURL(given)
	} else {
		cfg, err = dsql.FromEnv()
	}
	if err == nil && cfg.User != "" && cfg.User != "admin" {
		err = fmt.Errorf("the role is %q: must be admin, which may create schemas", cfg.User)
	}
	return cfg, err
}

// of returns a cluster that is opened with a configuration.
func of(cfg dsql.Config) conformance.Cluster {
	return conformance.Cluster{Connect: func(ctx context.Context, schema string) (*pgx.Conn, error) {
		c, err := dsql.NewConnector(ctx, cfg, dsql.WithRuntimeParam("search_path", schema),
			dsql.WithPoolConfig(func(p *pgxpool.Config) error { p.MaxConns = 1; return nil }))
		if err != nil {
			return nil, err
		}
		pool, err := c.NewPool(ctx)
		if err != nil {
			return nil, err
		}
		defer pool.Close()
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return nil, err
		}
		return conn.Hijack(), nil
	}}
}
