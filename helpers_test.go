package dsql_test

import (
	"os"
	"runtime"
	"testing"

	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/internal/harness"
	"github.com/go-dsql/dsql/internal/testenv"
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

func TestMain(m *testing.M) {
	testenv.Clear()
	os.Exit(m.Run())
}
