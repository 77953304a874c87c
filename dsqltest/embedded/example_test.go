package embedded_test

import (
	"testing"

	"github.com/go-dsql/dsql/dsqltest"
	_ "github.com/go-dsql/dsql/dsqltest/embedded"
)

func Example() {
	// In a test file:
	test := func(t *testing.T) {
		c := dsqltest.Start(t) // downloads PostgreSQL if there is none
		_ = c.Endpoint()
	}
	_ = test
}
