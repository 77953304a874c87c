package dsql_test

import (
	"runtime"
	"testing"

	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/internal/harness"
)

const host = harness.Host

// startCluster starts a local cluster, or skips the test where there is none.
func startCluster(t *testing.T, opts ...dsqltest.Option) *dsqltest.Cluster {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the local cluster needs Linux or macOS")
	}
	return dsqltest.Start(t, opts...)
}
