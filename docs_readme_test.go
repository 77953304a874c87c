package dsql_test

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
)

// The README's quick start.
func quickStart(ctx context.Context) error {
	pool, err := dsql.NewPool(ctx, "<cluster ID>.dsql.us-east-1.on.aws", "")
	if err != nil {
		return err
	}
	defer pool.Close()

	var now time.Time
	err = pool.QueryRow(ctx, "SELECT now()").Scan(&now)
	return err
}

func TestQuickStartSaysThatItsEndpointIsAPlaceholder(t *testing.T) {
	require.ErrorContains(t, quickStart(t.Context()), "<cluster id>")
}

// The README's test.
func TestCities(t *testing.T) {
	c := dsqltest.Start(t)
	pool, err := dsql.NewPool(t.Context(), c.Endpoint(), c.Region(), c.Options()...)
	require.NoError(t, err)
	defer pool.Close()
	// pool is a cluster of its own, with an empty schema
}

// The README's table of behaviours has a row for each test of the comparison.
func TestComparisonIsTested(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	source, err := os.ReadFile("compare/compare_test.go")
	require.NoError(t, err)
	_, table, ok := strings.Cut(string(readme), "| --- | --- | --- |\n")
	require.True(t, ok)
	table, _, _ = strings.Cut(table, "\n\n")
	tests := regexp.MustCompile(`(?m)^func Test`).FindAll(source, -1)
	require.Len(t, strings.Split(strings.TrimSpace(table), "\n"), len(tests))
}

// Every command in the README is a target of the Makefile or fetches the module.
func TestCommandsOfTheREADMEExist(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	require.NotEmpty(t, blocks)
	for _, block := range blocks {
		for command := range strings.Lines(block[1]) {
			command = strings.TrimSpace(command)
			if target, ok := strings.CutPrefix(command, "make "); ok {
				out, err := exec.Command("make", "-n", target).CombinedOutput()
				require.NoError(t, err, string(out))
				continue
			}
			require.Equal(t, "go get github.com/go-dsql/dsql", command)
		}
	}
}

func TestChangelogIsAtTheModulesVersion(t *testing.T) {
	changelog, err := os.ReadFile("CHANGELOG.md")
	require.NoError(t, err)
	newest := regexp.MustCompile(`(?m)^## (\S+)`).FindSubmatch(changelog)
	require.Equal(t, dsql.ApplicationName, "dsql-go/"+string(newest[1]))
}
