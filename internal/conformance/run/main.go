// Command run puts the records of dsqltest to a real cluster, as admin, with the AWS credentials of the
// environment, and compares its answers with them and with those of a local cluster. make conformance
// DSQL_ENDPOINT=… runs it; docs/conformance.md describes it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/internal/conformance"
)

func main() {
	clean := flag.Bool("clean", false, "drop what interrupted runs have left on the cluster, and end")
	confirmed := flag.Bool("yes", false, "begin without asking")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *clean, *confirmed); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		if why := dsql.Explain(err); why != "" {
			fmt.Fprintln(os.Stderr, why)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, clean, confirmed bool) error {
	cfg, err := dsql.FromEnv()
	if err != nil {
		return err
	}
	if cfg.User != "" && cfg.User != "admin" {
		return fmt.Errorf("DSQL_USER is %q: must be admin, which may create schemas, or not set", cfg.User)
	}
	connector, err := dsql.NewConnector(ctx, cfg)
	if err != nil {
		return err
	}
	cluster := of(cfg)
	if clean {
		left, err := cluster.Leftovers(ctx)
		if err != nil {
			return err
		}
		fmt.Println("dropping", left)
		return cluster.Drop(ctx, left...)
	}
	files, err := conformance.Load("dsqltest/testdata/conformance", "dsqltest/testdata/scenarios")
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
		Files: files, Dir: "dsqltest/testdata/clusters", Confirmed: confirmed, In: os.Stdin, Out: os.Stdout,
	}.Run(ctx)
	if err != nil {
		return err
	}
	report.Print(os.Stdout)
	fmt.Println("answers:", path, "(docs/conformance.md says how to contribute it)")
	return nil
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
