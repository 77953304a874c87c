package dsql_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// forEachFile calls f with the files of the repository that have a name.
func forEachFile(t *testing.T, pattern string, f func(path, text string)) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if match, _ := filepath.Match(pattern, entry.Name()); !match || entry.IsDir() {
			return nil
		}
		text, err := os.ReadFile(path)
		f(filepath.ToSlash(path), string(text))
		return err
	}))
}

func TestEveryFuzzTargetRunsInCI(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	require.NoError(t, err)
	targets := 0
	forEachFile(t, "*_test.go", func(path, text string) {
		for _, m := range regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`).FindAllStringSubmatch(text, -1) {
			targets++
			require.Regexp(t, `(?m)[ \t]`+regexp.QuoteMeta(filepath.ToSlash(filepath.Dir(path))+":"+m[1])+`( |$)`, string(makefile))
		}
	})
	require.GreaterOrEqual(t, targets, 8)
}

func TestEveryModuleIsTestedAndUpdated(t *testing.T) {
	dependabot, err := os.ReadFile(".github/dependabot.yml")
	require.NoError(t, err)
	makefile, err := os.ReadFile("Makefile")
	require.NoError(t, err)
	directories := regexp.MustCompile(`(?m)^ +directories: \[(.*)\]$`).FindStringSubmatch(string(dependabot))
	forEachFile(t, "go.mod", func(path, _ string) {
		module := filepath.ToSlash(filepath.Dir(path))
		require.Contains(t, strings.Split(directories[1], ", "), "/"+strings.TrimPrefix(module, "."))
		if module != "." {
			require.Regexp(t, `(?m)^(MODULES|EXAMPLES|OTEL) +:=.*[ ,]`+module+`[ )]*`, string(makefile))
		}
	})
}
