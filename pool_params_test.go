package dsql_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/internal/harness"
)

// refusedParams are those that a real cluster answers with 0A000, and a word of
// what to do instead.
var refusedParams = map[string]string{
	"role":                                "WithUser",
	"statement_timeout":                   "deadline",
	"lock_timeout":                        "deadline",
	"idle_in_transaction_session_timeout": "5 minutes",
	"idle_session_timeout":                "pool_max_conn_idle_time",
	"default_transaction_isolation":       "repeatable read",
	"default_transaction_read_only":       "pgx.ReadOnly",
	"client_min_messages":                 "OnNotice",
	"row_security":                        "leave it out",
	"standard_conforming_strings":         "always on",
	"synchronize_seqscans":                "leave it out",
	"work_mem":                            "leave it out",
}

func TestParametersThatDSQLRefusesAreRefusedAtConstruction(t *testing.T) {
	creds := dsql.WithCredentials(harness.Credentials)
	for name, instead := range refusedParams {
		t.Run(name, func(t *testing.T) {
			want := `DSQL refuses the parameter "` + name + `"`
			_, err := dsql.NewPool(t.Context(), host, "", creds, dsql.WithRuntimeParam(name, "1"))
			require.ErrorContains(t, err, want)
			require.ErrorContains(t, err, instead)
			_, err = dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host, Credentials: harness.Credentials, RuntimeParams: map[string]string{name: "1"}})
			require.ErrorContains(t, err, want)
			_, err = dsql.NewPool(t.Context(), host, "", creds, dsql.WithPoolConfig(func(p *pgxpool.Config) error {
				p.ConnConfig.RuntimeParams[name] = "1"
				return nil
			}))
			require.ErrorContains(t, err, want)
			_, err = dsql.ParseURL("postgres://" + host + "?" + name + "=1")
			require.ErrorContains(t, err, want)
			_, err = dsql.NewPool(t.Context(), host, "", creds, dsql.WithRuntimeParam("options", "-c search_path=app -c "+name+"=1"))
			require.ErrorContains(t, err, want)
		})
	}
	_, err := dsql.NewPool(t.Context(), host, "", creds, dsql.WithRuntimeParam("Statement_Timeout", "1"))
	require.ErrorContains(t, err, "DSQL refuses", "names are not case-sensitive")
}

func TestRefusedParameterOfABeforeConnectHookIsNotSent(t *testing.T) {
	s, opts := harness.Start(t, fakepg.Hooks{})
	pool := harness.NewPool(t, harness.With(opts, dsql.WithPoolConfig(func(p *pgxpool.Config) error {
		p.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
			c.RuntimeParams["statement_timeout"] = "3s"
			return nil
		}
		return nil
	}))...)
	require.ErrorContains(t, harness.Ping(t, pool), `DSQL refuses the parameter "statement_timeout"`)
	require.Zero(t, s.Accepted())
}

func TestOptionsAreSearchedForRefusedParameters(t *testing.T) {
	for options, refused := range map[string]bool{
		"-c work_mem=1":                           true,
		"-cwork_mem=1":                            true,
		"--work_mem=1":                            true,
		"--work-mem=1":                            true,
		" \t-c  work_mem=1":                       true,
		"-c timezone=UTC -c work_mem=1":           true,
		"-c timezone=UTC  --work_mem=1":           true,
		`-c search_path=a,\ b -c work_mem=1`:      true,
		"-c WORK_MEM=1":                           true,
		"-c timezone=UTC":                         false,
		"-c amzn-cluster-id=" + harness.ClusterID: false,
		`-c search_path=a,\ -c\ work_mem=1`:       false, // a part of search_path's value
		"-c search_path=work_mem":                 false,
		"-c app.work_mem=1":                       false,
		"":                                        false,
	} {
		_, err := dsql.NewConnector(t.Context(), dsql.Config{Endpoint: host, Credentials: harness.Credentials, RuntimeParams: map[string]string{"options": options}})
		if refused {
			require.ErrorContains(t, err, "DSQL refuses the parameter", options)
		} else {
			require.NoError(t, err, options)
		}
	}
}

func TestOtherParametersPass(t *testing.T) {
	s, opts := harness.Start(t, fakepg.Hooks{})
	pool := harness.NewPool(t, harness.With(opts, dsql.WithRuntimeParam("timezone", "Europe/Athens"), dsql.WithRuntimeParam("dsql.new_one", "on"), dsql.WithRuntimeParam("options", "-c datestyle=ISO"))...)
	require.NoError(t, harness.Ping(t, pool))
	require.Equal(t, map[string]string{
		"user": "admin", "database": "postgres", "application_name": dsql.ApplicationName,
		"timezone": "Europe/Athens", "dsql.new_one": "on", "options": "-c datestyle=ISO",
	}, s.Conns()[0].Parameters)
}
