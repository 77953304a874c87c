package main

import (
	"bytes"
	"regexp"
	"testing"
)

func TestTransactions(t *testing.T) {
	t.Setenv("DSQL_ENDPOINT", "")
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`^320 transfers by 32 workers, \d+ retries\nthe accounts hold 5000, as before\n$`)
	if !want.MatchString(out.String()) {
		t.Fatalf("printed %q", out.String())
	}
}
