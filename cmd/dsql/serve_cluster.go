package main

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/internal/dialect"
	"github.com/go-dsql/dsql/occ"
)

// serveEnv returns the environment in which programs find the cluster: the AWS SDK's variables,
// libpq's, and this command's.
func serveEnv(c *dsqltest.Cluster, role, caFile string) []string {
	env := slices.DeleteFunc(c.Env(), isContrary)
	vars := make(map[string]string)
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		vars[name] = value
	}
	role, caFile = cmp.Or(role, vars["PGUSER"]), cmp.Or(caFile, vars["PGSSLROOTCERT"])
	host := vars["PGHOSTADDR"]
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1" // where every address is listened on, this one is too
	}
	query := url.Values{"hostaddr": {host}, "port": {vars["PGPORT"]}, "sslmode": {"verify-full"}, "sslrootcert": {caFile}}.Encode()
	u := url.URL{Scheme: "postgres", User: url.User(role), Host: c.Endpoint(), Path: "/postgres",
		RawQuery: strings.ReplaceAll(query, "%2F", "/")} // so that a script can replace the path in it
	return append(env,
		"PGHOSTADDR="+host,
		"PGUSER="+role,
		"PGSSLROOTCERT="+caFile,
		"DSQL_USER="+role,
		"DSQL_DIAL_ADDRESS="+net.JoinHostPort(host, vars["PGPORT"]),
		"DSQL_ROOT_CERT="+caFile,
		"DSQL_URL="+u.String(),
	)
}

// applySchema runs the files *.sql of a directory, each statement in a transaction of its own, as
// DSQL's DDL has to be.
func applySchema(ctx context.Context, c *dsqltest.Cluster, dir string) error {
	names, err := fs.Glob(os.DirFS(dir), "*.sql")
	if err != nil {
		return fmt.Errorf("dsql: %w", err)
	}
	if len(names) == 0 {
		return fmt.Errorf("dsql: the directory %s has no files *.sql", dir)
	}
	slices.Sort(names)
	conn, err := dsql.Connect(ctx, c.Endpoint(), c.Region(), c.Options()...)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	for _, name := range names {
		text, err := fs.ReadFile(os.DirFS(dir), name)
		if err != nil {
			return fmt.Errorf("dsql: %w", err)
		}
		for _, sql := range dialect.Split(string(text)) {
			err := occ.Retry(ctx, func(ctx context.Context) error {
				_, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
				return err
			})
			if err != nil {
				return fmt.Errorf("dsql: %s: %.200s: %w", name, sql, err)
			}
		}
	}
	return nil
}
