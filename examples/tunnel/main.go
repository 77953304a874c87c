// Command tunnel connects through a local TCP forwarder, as through an SSH or SSM tunnel. Only the
// dial address changes: the token is signed for the cluster's name, which is also the SNI hostname
// and the name that is verified.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/examples/internal/cluster"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		cluster.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	c, err := cluster.Open(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	tunnel, err := openTunnel(ctx, c)
	if err != nil {
		return err
	}
	defer tunnel.Close()

	// A local cluster has a DialFunc, which WithDialAddress replaces.
	opts := append(c.Options, dsql.WithDialAddress(tunnel.Addr().String()))
	pool, err := dsql.NewPool(ctx, c.Endpoint, c.Region, opts...)
	if err != nil {
		return err
	}
	defer pool.Close()
	var answer string
	if err := pool.QueryRow(ctx, "SELECT 'through the tunnel'").Scan(&answer); err != nil {
		return err
	}
	fmt.Fprintln(out, answer)
	return nil
}

// openTunnel forwards TCP to the cluster until the listener is closed.
func openTunnel(ctx context.Context, c *cluster.Cluster) (net.Listener, error) {
	cfg := dsql.Config{Endpoint: c.Endpoint, Region: c.Region}
	for _, opt := range c.Options {
		if err := opt(&cfg); err != nil {
			return nil, err
		}
	}
	connector, err := dsql.NewConnector(ctx, cfg) // resolves a bare cluster ID
	if err != nil {
		return nil, err
	}
	address := connector.PoolConfig().ConnConfig.Host + ":5432"
	dial := cfg.DialFunc
	if dial == nil { // a real cluster
		dial = (&net.Dialer{}).DialContext
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go forward(ctx, client, dial, address)
		}
	}()
	return listener, nil
}

func forward(ctx context.Context, client net.Conn, dial pgconn.DialFunc, address string) {
	defer client.Close()
	server, err := dial(ctx, "tcp", address)
	if err != nil {
		log.Print(err)
		return
	}
	defer server.Close()
	go func() {
		defer server.Close()
		_, _ = io.Copy(server, client)
	}()
	_, _ = io.Copy(client, server)
}
