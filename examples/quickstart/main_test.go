package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestQuickstart(t *testing.T) {
	t.Setenv("DSQL_ENDPOINT", "")
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	const table = "\ncity    thousands\nOslo    709\nAthens  643\nDublin  593\n"
	if got := out.String(); !strings.HasPrefix(got, "connected to ") || !strings.HasSuffix(got, table) {
		t.Fatalf("printed %q", got)
	}
}
