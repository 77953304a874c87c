package main

import (
	"bytes"
	"testing"
)

func TestDatabaseSQL(t *testing.T) {
	t.Setenv("DSQL_ENDPOINT", "")
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if out.String() != "home: 3\nabout: 1\n" {
		t.Fatalf("printed %q", out.String())
	}
}
