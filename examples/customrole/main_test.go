package main

import (
	"bytes"
	"io"
	"testing"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/examples/internal/cluster"
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

func TestRoleWithTooManyPrivileges(t *testing.T) {
	t.Setenv("DSQL_ENDPOINT", "")
	c, err := cluster.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	admin, err := dsql.NewPool(t.Context(), c.Endpoint, c.Region, c.Options...)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := apply(t.Context(), admin, append(grants(c.Principal), "GRANT DELETE ON customrole.orders TO customrole_app")...); err != nil {
		t.Fatal(err)
	}
	if err := work(t.Context(), c, io.Discard); err == nil || err.Error() != "the role was able to delete orders" {
		t.Fatalf("reported %v", err)
	}
}
