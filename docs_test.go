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

// CONTRIBUTING.md and docs/architecture.md name every package.
func TestPackagesAreDocumented(t *testing.T) {
	folders, err := os.ReadDir("internal")
	require.NoError(t, err)
	contributing, err := os.ReadFile("CONTRIBUTING.md")
	require.NoError(t, err)
	architecture, err := os.ReadFile("docs/architecture.md")
	require.NoError(t, err)
	for _, folder := range folders {
		require.Contains(t, string(contributing), "`internal/"+folder.Name()+"`")
		require.Contains(t, string(architecture), "`"+folder.Name()+"`")
	}
}

// Tests that docs/security.md names exist.
func TestSecurityIsTested(t *testing.T) {
	page, err := os.ReadFile("docs/security.md")
	require.NoError(t, err)
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	var source strings.Builder
	for _, file := range append(files, "internal/redact/redact_test.go") {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		source.Write(text)
	}
	for _, name := range regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(string(page), -1) {
		require.True(t, strings.Contains(source.String(), "func "+name[1]+"("), name[1])
	}
}

// Every fault of dsqltest has an example, and docs/testing.md names it.
func TestFaultsHaveExamples(t *testing.T) {
	source, err := os.ReadFile("dsqltest/faults.go")
	require.NoError(t, err)
	page, err := os.ReadFile("docs/testing.md")
	require.NoError(t, err)
	examples, err := os.ReadFile("dsqltest/example_faults_test.go")
	require.NoError(t, err)
	faults := regexp.MustCompile(`(?m)^func \(c \*Cluster\) ([A-Z]\w+)\(`).FindAllStringSubmatch(string(source), -1)
	require.GreaterOrEqual(t, len(faults), 11)
	for _, fault := range faults {
		require.True(t, strings.Contains(string(examples), "func ExampleCluster_"+fault[1]+"()"), fault[1])
		require.True(t, strings.Contains(string(page), "`Cluster."+fault[1]+"`"), fault[1])
	}
}

// Links between the pages lead to files and headings that exist.
func TestLinksOfTheDocumentation(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	pages = append(pages, "README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "examples/README.md")
	link := regexp.MustCompile(`\]\(([^)#]*)(?:#([^)]*))?\)`)
	for _, page := range pages {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			target := page
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(page), m[1])
			}
			if strings.Contains(m[1], "://") {
				continue
			}
			linked, err := os.Stat(target)
			require.NoError(t, err, page)
			if m[2] != "" && !linked.IsDir() {
				heading, err := os.ReadFile(target)
				require.NoError(t, err)
				require.Contains(t, anchors(string(heading)), m[2], page)
			}
		}
	}
}

// anchors returns the anchors of a page's headings, as GitHub makes them.
func anchors(page string) (found []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		heading := regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(strings.ToLower(m[1]), "")
		found = append(found, strings.ReplaceAll(heading, " ", "-"))
	}
	return found
}
