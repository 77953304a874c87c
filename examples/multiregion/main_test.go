package main

import (
	"bytes"
	"testing"
)

func TestMultiregion(t *testing.T) {
	t.Setenv("DSQL_ENDPOINT", "")
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if out.String() != "us-east-1 resting\nus-east-2 up\n" {
		t.Fatalf("printed %q", out.String())
	}
}
