package dsql_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/params"
)

var goBlock = regexp.MustCompile("(?ms)^```go\n(.*?)^```")

// unindented is text without the space around its lines.
func unindented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.TrimSpace(line) + "\n")
	}
	return b.String()
}

func TestGoBlocksOfTheDocumentationAreCompiledSomewhere(t *testing.T) {
	var compiled strings.Builder
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inExamples := strings.HasPrefix(path, "examples"+string(filepath.Separator))
		if strings.HasSuffix(path, "_test.go") || inExamples && strings.HasSuffix(path, ".go") {
			source, err := os.ReadFile(path)
			compiled.WriteString(unindented(string(source)))
			return err
		}
		return nil
	})
	require.NoError(t, err)
	pages, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	require.NotEmpty(t, pages)
	for _, page := range append(pages, "README.md") {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, block := range goBlock.FindAllStringSubmatch(string(text), -1) {
			require.True(t, strings.Contains(compiled.String(), unindented(block[1])), "%s: no test has\n%s", page, block[1])
		}
	}
}

// Every option and every parameter of a URL is in the page that lists them.
func TestConfigurationIsDocumented(t *testing.T) {
	source, err := os.ReadFile("options.go")
	require.NoError(t, err)
	page, err := os.ReadFile("docs/configuration.md")
	require.NoError(t, err)
	options := regexp.MustCompile(`(?m)^func (With\w+)`).FindAllStringSubmatch(string(source), -1)
	require.GreaterOrEqual(t, len(options), 12)
	for _, option := range options {
		require.True(t, strings.Contains(string(page), "`"+option[1]+"`"), option[1])
	}
	for _, name := range params.Refused() {
		require.True(t, strings.Contains(string(page), "`"+name+"`"), name)
	}
}
