package connstring

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/testenv"
)

func TestMain(m *testing.M) {
	testenv.Clear()
	os.Exit(m.Run())
}

const tlsSettings = "host=example.org sslmode=verify-full sslnegotiation=direct sslcertmode=allow connect_timeout=10 pool_max_conns=7"

func TestNothingAmbientChangesTheResult(t *testing.T) {
	for _, settings := range []string{"", tlsSettings} {
		want, err := Parse("/", "dsql", settings)
		require.NoError(t, err)
		home := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(home, ".pgpass"), []byte("*:*:*:*:secret"), 0o600))
		for name, value := range map[string]string{
			"HOME": home, "PGHOST": "nowhere.invalid", "PGPORT": "abc", "PGUSER": "eve", "PGPASSWORD": "x", "PGDATABASE": "other",
			"PGSSLMODE": "bogus", "PGSSLNEGOTIATION": "bogus", "PGSSLROOTCERT": "/nope", "PGSSLCERT": "/nope", "PGSSLKEY": "/nope",
			"PGSSLCERTMODE": "bogus", "PGSSLSNI": "0", "PGSSLPASSWORD": "x", "PGPASSFILE": filepath.Join(home, ".pgpass"),
			"PGCONNECT_TIMEOUT": "x", "PGTARGETSESSIONATTRS": "standby", "PGREQUIREAUTH": "bogus", "PGCHANNELBINDING": "require",
			"PGMINPROTOCOLVERSION": "9", "PGMAXPROTOCOLVERSION": "9", "PGKRBSRVNAME": "x", "PGOPTIONS": "-c a=b", "PGAPPNAME": "x", "PGTZ": "x", "PGSERVICEFILE": "/nope",
		} {
			t.Setenv(name, value)
		}
		got, err := Parse("/", "dsql", settings)
		require.NoError(t, err)
		require.Equal(t, want.ConnConfig.Host, got.ConnConfig.Host)
		require.Equal(t, want.ConnConfig.Port, got.ConnConfig.Port)
		require.Equal(t, want.ConnConfig.User, got.ConnConfig.User)
		require.Equal(t, want.ConnConfig.Password, got.ConnConfig.Password)
		require.Empty(t, got.ConnConfig.RuntimeParams)
		require.Equal(t, want.ConnConfig.Database, got.ConnConfig.Database)
		require.Equal(t, want.ConnConfig.ConnectTimeout, got.ConnConfig.ConnectTimeout)
		require.Equal(t, want.ConnConfig.SSLNegotiation, got.ConnConfig.SSLNegotiation)
		require.Equal(t, want.ConnConfig.TLSConfig == nil, got.ConnConfig.TLSConfig == nil)
		require.Equal(t, len(want.ConnConfig.Fallbacks), len(got.ConnConfig.Fallbacks))
		require.Nil(t, got.ConnConfig.ValidateConnect)
	}
}

func TestLastValueWins(t *testing.T) {
	cfg, err := Parse("/", "dsql", tlsSettings+" host=other.example")
	require.NoError(t, err)
	require.Equal(t, "other.example", cfg.ConnConfig.Host)
	require.Equal(t, "other.example", cfg.ConnConfig.TLSConfig.ServerName)
	require.Equal(t, 10*time.Second, cfg.ConnConfig.ConnectTimeout)
	require.EqualValues(t, 7, cfg.MaxConns)
	require.Empty(t, cfg.ConnConfig.Password)
}

func TestUnreadablePGSERVICEIsNamed(t *testing.T) {
	t.Setenv("PGSERVICE", "missing")
	t.Setenv("PGSERVICEFILE", "/nope")
	_, err := Parse("/", "dsql", "")
	require.ErrorContains(t, err, `the environment variable PGSERVICE is "missing", which pgx cannot read: unset PGSERVICE: `)
}

func TestMalformedSettings(t *testing.T) {
	_, err := Parse("/", "dsql", "connect_timeout=x")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "PGSERVICE")
}
