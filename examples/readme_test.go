package examples

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every program has its paragraph, and every paragraph its program and a test.
func TestREADMEListsThePrograms(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	programs, err := filepath.Glob("*/main.go")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(readme), "- `go run ./"); got != len(programs) {
		t.Errorf("the README has %d programs, not %d", got, len(programs))
	}
	for _, program := range programs {
		folder := filepath.Dir(program)
		if !strings.Contains(string(readme), "- `go run ./"+folder+"`") {
			t.Errorf("the README does not have %s", folder)
		}
		if _, err := os.Stat(filepath.Join(folder, "main_test.go")); err != nil {
			t.Error(err)
		}
	}
}
