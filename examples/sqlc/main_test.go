package main

import (
	"bytes"
	"testing"
)

func TestSQLC(t *testing.T) {
	t.Setenv("DSQL_ENDPOINT", "")
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if want := "Jane Austen: 6 books\nMary Shelley: 7 books\n"; out.String() != want {
		t.Fatalf("printed %q, not %q", out.String(), want)
	}
}
