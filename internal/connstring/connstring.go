// Package connstring parses connection strings such that nothing in the environment has an effect.
package connstring

import (
	"fmt"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"
)

// everyKey names every key that pgx would otherwise take from PG* variables, service files or the
// home directory.
const everyKey = "host=/ port=5432 user=dsql dbname=postgres password='' passfile=''" +
	" sslmode=disable sslnegotiation=postgres sslrootcert='' sslcert='' sslkey='' sslpassword='' sslcertmode=disable sslsni=1" +
	" connect_timeout=0 target_session_attrs=any min_protocol_version=3.0 max_protocol_version=3.0" +
	" channel_binding=disable require_auth='' krbsrvname='' krbspn=''"

// Parse parses settings, "key=value key=value …", over defaults that name every key: user dsql on
// a socket, without TLS, password or timeout. The last value of a key wins; runtime parameters are
// not taken. PG* variables, service files and .pgpass have no effect, with one exception: pgx fails
// when PGSERVICE names a service that it cannot read, and the error says so.
func Parse(settings string) (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(everyKey + " " + settings)
	if err == nil {
		cfg.ConnConfig.RuntimeParams = make(map[string]string) // PGAPPNAME, PGOPTIONS, PGTZ
		return cfg, nil
	}
	if service := os.Getenv("PGSERVICE"); service != "" {
		return nil, fmt.Errorf("the environment variable PGSERVICE is %q, which pgx cannot read: unset PGSERVICE: %w", service, err)
	}
	return nil, err
}
