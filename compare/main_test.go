package compare

import (
	"os"
	"testing"

	"github.com/go-dsql/dsql/internal/testenv"
)

func TestMain(m *testing.M) {
	testenv.Clear()
	os.Exit(m.Run())
}
