package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/go-dsql/dsql/dsqltest"
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

func TestRefusedConnectionIsExplained(t *testing.T) {
	c := dsqltest.Start(t)
	c.RefuseConnections("53300")
	var out bytes.Buffer
	err := show(t.Context(), &out, c.Endpoint(), c.Region(), c.Options()...)
	if err == nil || out.Len() != 0 {
		t.Fatalf("%v, and printed %q", err, out.String())
	}
	report(&out, err)
	if !strings.Contains(out.String(), "quota of open connections") {
		t.Fatalf("reported %q", out.String())
	}
}
