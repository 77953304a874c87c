// Command multiregion keeps writing while one of the two endpoints of a multi-Region cluster is lost.
// On a local cluster it cuts the endpoint itself; on a real one, which needs DSQL_FAILOVER, it reports
// the state of the endpoints.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/jackc/pgx/v5"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/examples/internal/cluster"
	"github.com/go-dsql/dsql/occ"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		cluster.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	if os.Getenv("DSQL_ENDPOINT") != "" {
		cfg, err := dsql.FromEnv()
		if err != nil {
			return err
		}
		return write(ctx, out, cfg, func() {})
	}
	local, err := dsqltest.Run(ctx, dsqltest.WithPeer("us-east-2"))
	if err != nil {
		return err
	}
	defer local.Close()
	cfg := local.Config()
	cfg.Failover = []dsql.Peer{{Endpoint: local.Peer().Endpoint()}}
	return write(ctx, out, cfg, local.Cut)
}

// write writes a row before and after lose, which takes the preferred endpoint away.
func write(ctx context.Context, out io.Writer, cfg dsql.Config, lose func()) error {
	connector, err := dsql.NewConnector(ctx, cfg)
	if err != nil {
		return err
	}
	pool, err := connector.NewPool(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, "CREATE TABLE IF NOT EXISTS multiregion_event (id uuid PRIMARY KEY DEFAULT gen_random_uuid())"); err != nil {
		return err
	}
	insert := func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO multiregion_event DEFAULT VALUES")
		return err
	}
	if err := occ.RunTx(ctx, pool, insert); err != nil {
		return err
	}
	lose()
	if err := occ.RunTx(ctx, pool, insert); err != nil {
		return err
	}
	for _, e := range connector.Endpoints() {
		state := "up"
		if e.Resting {
			state = "resting"
		}
		fmt.Fprintln(out, e.Region, state)
	}
	_, err = pool.Exec(ctx, "DROP TABLE multiregion_event")
	return err
}
