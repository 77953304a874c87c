// Package connstring parses connection strings such that nothing in the environment has an effect,
// and splits URLs.
package connstring

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql/internal/redact"
)

// everyKey names every key that pgx would otherwise take from PG* variables, service files or the
// home directory. The passwords are not among them, so that ConnString shows none: what pgx finds
// for them is discarded.
const everyKey = "host=%s user=%s port=5432 dbname=postgres passfile=''" +
	" sslmode=disable sslnegotiation=postgres sslrootcert='' sslcert='' sslkey='' sslcertmode=disable sslsni=1" +
	" connect_timeout=0 target_session_attrs=any min_protocol_version=3.0 max_protocol_version=3.0" +
	" channel_binding=disable require_auth='' krbsrvname='' krbspn=''" +
	" default_query_exec_mode=cache_statement statement_cache_capacity=512 description_cache_capacity=512" +
	" pool_max_conns=4 pool_min_conns=0 pool_min_idle_conns=0 pool_max_conn_lifetime=1h pool_max_conn_lifetime_jitter=0s" +
	" pool_max_conn_idle_time=30m pool_health_check_period=1m pool_ping_timeout=0s %s"

// Parse parses settings, "key=value key=value …", for user at host over defaults that name every
// key: without TLS, password or timeout. The last value of a key wins; runtime parameters are not
// taken. PG* variables, service files and .pgpass have no effect, with one exception: pgx fails when
// PGSERVICE names a service that it cannot read, and the error says so.
func Parse(host, user, settings string) (*pgxpool.Config, error) {
	service := os.Getenv("PGSERVICE")
	if file := serviceFile(); service != "" && isPipe(file) {
		return nil, fmt.Errorf("the service file %s of the environment variables PGSERVICE and PGSERVICEFILE must be a regular file: unset PGSERVICE", file)
	}
	cfg, err := pgxpool.ParseConfig(fmt.Sprintf(everyKey, quote(host), quote(user), settings))
	switch {
	case err == nil:
		cfg.ConnConfig.Password = ""
		cfg.ConnConfig.RuntimeParams = make(map[string]string) // PGAPPNAME, PGOPTIONS, PGTZ
		return cfg, nil
	case service != "":
		return nil, redact.Wrap(fmt.Sprintf("the environment variable PGSERVICE is %q, which pgx cannot read: unset PGSERVICE", service), err)
	}
	return nil, redact.Wrap("pgx refused the configuration", err)
}

func quote(value string) string {
	if strings.ContainsAny(value, ` '\`) {
		return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
	}
	return value
}

func serviceFile() string {
	home, _ := os.UserHomeDir()
	return cmp.Or(os.Getenv("PGSERVICEFILE"), filepath.Join(home, ".pg_service.conf"))
}

// isPipe reports whether reading file could take forever.
func isPipe(file string) bool {
	info, err := os.Stat(file)
	return err == nil && !info.Mode().IsRegular() && file != os.DevNull
}
