//go:build !unix

package keep

import (
	"context"
	"errors"
	"os"
)

// lock fails: nothing runs PostgreSQL here.
func lock(context.Context, string) (*os.File, error) {
	return nil, errors.New("dsql: a data directory needs Linux or macOS")
}
