package main

import (
	"bytes"
	"testing"
)

func TestBatch(t *testing.T) {
	t.Setenv("DSQL_ENDPOINT", "")
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	const want = "loaded 10000 rows in batches of 2500\ndeleted 10000 rows\n"
	if out.String() != want {
		t.Fatalf("printed %q", out.String())
	}
}
