package explain_test

import (
	"os"
	"testing"

	"github.com/go-dsql/dsql/internal/harness"
	"github.com/go-dsql/dsql/internal/testenv"
)

const host = harness.Host

func TestMain(m *testing.M) {
	testenv.Clear()
	os.Exit(m.Run())
}
