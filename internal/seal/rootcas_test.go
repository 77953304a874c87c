package seal

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/fakepg"
)

func TestReadRootCAs(t *testing.T) {
	cert, want := fakepg.Certificate(t, "h")
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o600))
	got, err := ReadRootCAs(file)
	require.NoError(t, err)
	require.True(t, want.Equal(got))

	got, err = ReadRootCAs("system")
	require.NoError(t, err)
	require.Nil(t, got)

	for file, want := range map[string]string{
		"rootcas.go":    `dsql: the URL's sslrootcert "rootcas.go" must be a PEM file of certificates, and has none`,
		os.DevNull:      "dsql: the URL's sslrootcert must name a regular file",
		t.TempDir():     "dsql: the URL's sslrootcert must name a regular file",
		"missing.pem":   "dsql: the URL's sslrootcert cannot be read: open missing.pem",
		"hunter2=x.pem": "dsql: the URL's sslrootcert cannot be read: open (not shown, it may hold a secret)",
	} {
		got, err := ReadRootCAs(file)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "hunter2")
		require.Nil(t, got)
	}
}
