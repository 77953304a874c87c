// Package testenv keeps tests independent of the environment they run in.
package testenv

import (
	"os"
	"slices"
	"strings"
)

// own are the variables that dsql.FromEnv reads.
var own = []string{"DSQL_ENDPOINT", "DSQL_REGION", "DSQL_USER", "DSQL_PROFILE", "DSQL_FAILOVER"}

// Clear unsets the variables that pgx, libpq and the AWS SDK read, PG* and AWS_*, and those of
// dsql.FromEnv. Call it in TestMain.
func Clear() {
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, "PG") || strings.HasPrefix(name, "AWS_") || slices.Contains(own, name) {
			os.Unsetenv(name)
		}
	}
}
