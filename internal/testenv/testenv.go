// Package testenv keeps tests independent of the environment they run in.
package testenv

import (
	"os"
	"strings"
)

// Clear unsets the variables that pgx, libpq and the AWS SDK read: PG* and AWS_*. Call it in
// TestMain.
func Clear() {
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, "PG") || strings.HasPrefix(name, "AWS_") {
			os.Unsetenv(name)
		}
	}
}
