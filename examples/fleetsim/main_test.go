package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// docs/operations.md has the table, and docs/fleet.svg is the plot. After a change:
// go run ./fleetsim -svg ../docs/fleet.svg
func TestDocumentationHasTheOutput(t *testing.T) {
	var table bytes.Buffer
	svg := filepath.Join(t.TempDir(), "fleet.svg")
	if err := run(&table, svg); err != nil {
		t.Fatal(err)
	}
	if docs := read(t, "../../docs/operations.md"); !strings.Contains(docs, "\n\n"+table.String()+"\n") {
		t.Errorf("docs/operations.md must have this table:\n%s", table.String())
	}
	if read(t, svg) != read(t, "../../docs/fleet.svg") {
		t.Error("docs/fleet.svg is not what go run ./fleetsim -svg writes")
	}
}

// Whatever the scenario, no endpoint opens more than its quota, and every place is connected.
func TestQuotaHolds(t *testing.T) {
	for _, s := range scenarios {
		r := s.simulate()
		endpoints := 1
		if s.loss > 0 {
			endpoints = 2
		}
		opened := 0
		for now, n := range r.opened {
			opened += n
			if most := endpoints * (quota + quotaRate*(now+1)); opened > most {
				t.Fatalf("%s: %d connections opened after %d s, more than %d", s.name, opened, now, most)
			}
		}
		if r.settled < 0 || opened < 2*processes*perPool {
			t.Errorf("%s: settled after %d s, %d connections opened", s.name, r.settled, opened)
		}
	}
}
