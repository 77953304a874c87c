package occ_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// occ serves any pgx pool, so its users must not pay for the AWS SDK.
func TestOccDoesNotDependOnTheAWSSDK(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	require.NoError(t, err)
	deps := strings.Fields(string(out))
	require.Contains(t, deps, "github.com/jackc/pgx/v5")
	for _, dep := range deps {
		require.False(t, strings.HasPrefix(dep, "github.com/aws/"), dep)
		require.NotEqual(t, "github.com/go-dsql/dsql", dep)
	}
}
