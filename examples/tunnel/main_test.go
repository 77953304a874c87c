package main

import (
	"bytes"
	"testing"
)

func TestTunnel(t *testing.T) {
	t.Setenv("DSQL_ENDPOINT", "")
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if out.String() != "through the tunnel\n" {
		t.Fatalf("printed %q", out.String())
	}
}
