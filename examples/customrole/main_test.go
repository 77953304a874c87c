package main

import (
	"bytes"
	"testing"
)

func TestCustomRole(t *testing.T) {
	t.Setenv("DSQL_ENDPOINT", "")
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	const want = "customrole_app sees 2 orders\n" +
		"customrole_app cannot delete them: permission denied for table orders\n"
	if out.String() != want {
		t.Fatalf("printed %q, not %q", out.String(), want)
	}
}
