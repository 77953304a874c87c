// Command bare connects to an endpoint that is not there, from a process without
// environment, home or /tmp, and prints each name looked up and address dialed.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql"
)

func main() {
	if err := run(context.Background(), os.Args[1]); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, endpoint string) error {
	if entries := os.Environ(); len(entries) != 0 {
		return fmt.Errorf("the environment is not empty: %q", entries)
	}
	for _, dir := range []string{"/tmp", "/var/run/postgresql", "/private/tmp"} {
		if _, err := os.Stat(dir); err == nil {
			fmt.Println("exists:", dir)
		}
	}
	pool, err := dsql.NewPool(ctx, endpoint, "",
		dsql.WithCredentials(credentials.NewStaticCredentialsProvider("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "")),
		dsql.WithPoolConfig(func(p *pgxpool.Config) error {
			p.ConnConfig.LookupFunc = func(_ context.Context, name string) ([]string, error) {
				fmt.Println("lookup:", name)
				return []string{"192.0.2.1", "192.0.2.2"}, nil
			}
			p.ConnConfig.DialFunc = func(_ context.Context, network, address string) (net.Conn, error) {
				fmt.Println("dial:", network, address)
				return nil, errors.New("refused")
			}
			return nil
		}))
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := pool.Ping(ctx); err == nil {
		return errors.New("connected to nothing")
	}
	return nil
}
