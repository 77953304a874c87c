package explain_test

import "github.com/go-dsql/dsql/internal/harness"

const host = harness.Host
