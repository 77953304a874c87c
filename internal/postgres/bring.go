package postgres

import "context"

// Bring returns the directory of PostgreSQL's programs where there are none on the machine. It is
// nil unless the program imports dsqltest/embedded, which sets it before main runs.
var Bring func(ctx context.Context) (dir string, err error)
