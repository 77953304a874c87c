package main

import (
	"bytes"
	"testing"
)

func TestGoose(t *testing.T) {
	t.Setenv("DSQL_ENDPOINT", "")
	for range 3 { // races differ
		var out bytes.Buffer
		if err := run(t.Context(), &out); err != nil {
			t.Fatal(err)
		}
		const want = "the schema is at version 4\n" +
			"4 migrations were applied, each once; there are 2 cities\n"
		if out.String() != want {
			t.Fatalf("printed %q, not %q", out.String(), want)
		}
	}
}
