package examples

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every program has an entry and a test, and every entry a program.
func TestREADMEListsThePrograms(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	programs, err := filepath.Glob("*/main.go")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(readme), "\n- `"); got != len(programs) {
		t.Errorf("the README lists %d programs, not %d", got, len(programs))
	}
	for _, program := range programs {
		folder := filepath.Dir(program)
		command := "- `go run ./" + folder + "`"
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			command = "- `cd " + folder + " && go run .`"
		}
		if !strings.Contains(string(readme), command) {
			t.Errorf("the README does not list %s", folder)
		}
		if _, err := os.Stat(filepath.Join(folder, "main_test.go")); err != nil {
			t.Error(err)
		}
	}
}
