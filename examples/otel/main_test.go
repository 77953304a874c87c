package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestOTel(t *testing.T) {
	t.Setenv("DSQL_ENDPOINT", "")
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	printed := out.String()
	for _, want := range []string{
		`"Name":"connect"`,
		`"Name":"pool.acquire"`,
		"INSERT INTO otel_event (name) VALUES ($1)",
		`"Name":"COMMIT"`,
		`"Name":"pgxpool.total_connections"`,
	} {
		if !strings.Contains(strings.ToLower(printed), strings.ToLower(want)) {
			t.Errorf("%s is not in\n%s", want, printed)
		}
	}
	for _, secret := range []string{"X-Amz-Signature", "Action=DbConnect"} {
		if strings.Contains(printed, secret) {
			t.Errorf("%s is in what was printed", secret)
		}
	}
}
