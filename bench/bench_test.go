package main

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTablesAndPlotsOfARecordedRun(t *testing.T) {
	out := t.TempDir()
	require.NoError(t, run(out, []string{"testdata/hotrow.txt"}))
	tables, err := os.ReadFile(filepath.Join(out, "hotrow.md"))
	require.NoError(t, err)
	require.Equal(t, `### A scripted server under first-committer-wins, whose COMMIT takes 1 ms

`+header+`| 8 | `+"`RunTx`"+` | 462 | 0 | 2.46 | 4.9 | 57 | 138 | 17 | 8.0 |
| 8 | `+"`RunTx`, `WithSerialKey`"+` | 493 | 0 | 1.01 | 12 | 30 | 74 | 16 | 4.6 |
| 8 | 3 retries from 100 ms | 570 | 0.4 % | 1.06 | 1.4 | 4.0 | 361 | 14 | 25.7 |
| 8 | no backoff | 368 | 0 | 7.44 | 15 | 67 | 111 | 22 | 5.1 |
| 128 | `+"`RunTx`"+` | 412 | 0 | 3.45 | 15 | 953 | 1222 | 311 | 3.9 |
| 128 | `+"`RunTx`, `WithSerialKey`"+` | 544 | 0 | 1.05 | 217 | 322 | 376 | 236 | 1.6 |
| 128 | 3 retries from 100 ms | 526 | 12.8 % | 2.08 | 1.6 | never | never | 243 | never |
| 128 | no backoff | 95 | 0 | 61.59 | 969 | 3519 | 5364 | 1346 | 4.0 |

![commits per second and p99 by workers](hotrow-script.svg)

RunTx reached 0.81, 0.78 of the best other policy's commits per second.

`, string(tables))

	svg, err := os.ReadFile(filepath.Join(out, "hotrow-script.svg"))
	require.NoError(t, err)
	for _, text := range []string{"commits/s", "p99, ms", "no p99 where more than 1 % failed", "RunTx, WithSerialKey", "AWS&#39;s connector", "50 retries without backoff (crdbpgx)", ">128<"} {
		require.Contains(t, string(svg), text)
	}
	require.NoFileExists(t, filepath.Join(out, "hotrow-distant.svg"))
}

// Every server in the input has a table and a plot, whatever the others have.
func TestEveryServerIsPlotted(t *testing.T) {
	recorded, err := os.ReadFile("testdata/hotrow.txt")
	require.NoError(t, err)
	input, out := filepath.Join(t.TempDir(), "hotrow.txt"), t.TempDir()
	all := string(recorded)
	for _, server := range servers[1:] {
		all += strings.ReplaceAll(string(recorded), "HotRow/script/", "HotRow/"+server.name+"/")
	}
	require.NoError(t, os.WriteFile(input, []byte(all), 0o600))
	require.NoError(t, run(out, []string{input}))
	tables, err := os.ReadFile(filepath.Join(out, "hotrow.md"))
	require.NoError(t, err)
	for _, server := range servers {
		require.Contains(t, string(tables), "### "+server.title+"\n\n"+header)
		require.Contains(t, string(tables), "(hotrow-"+server.name+".svg)")
		svg, err := os.ReadFile(filepath.Join(out, "hotrow-"+server.name+".svg"))
		require.NoError(t, err)
		require.Contains(t, string(svg), server.title)
		for _, policy := range policies {
			require.Contains(t, strings.ReplaceAll(string(svg), "&#39;", "'"), policy.legend)
		}
	}
}

// One number of workers, one value, a value of 1 or nothing but failures can be plotted too. The
// markers, which are rings, are in the legend and in each panel that has the value.
func TestTablesWithFewValuesArePlotted(t *testing.T) {
	ring := regexp.MustCompile(`<path d="[^"]*A[^"]*Z"`)
	for p99, markers := range map[string]int{"never": 2, "1.0": 3, "20": 3, "0.3": 3} {
		file := filepath.Join(t.TempDir(), "few.svg")
		require.NoError(t, plotTable("few", header+"| 32 | `RunTx` | 26 | 0 | 2.64 | 280 | 300 | "+p99+" | 1214 | 1.0 |\n", file))
		svg, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Contains(t, string(svg), ">32<")
		require.Contains(t, string(svg), ">RunTx<")
		require.Len(t, ring.FindAll(svg, -1), markers, p99)
	}
}

var update = flag.Bool("update", false, "draw the plots of docs/performance.md from its tables")

// The plots in docs are what this program draws of the tables beside them.
func TestDocumentedPlotsAreOfTheTables(t *testing.T) {
	docs, err := os.ReadFile("../docs/performance.md")
	require.NoError(t, err)
	require.Contains(t, string(docs), "](hotrow-script.svg)")
	for _, server := range servers {
		image := "hotrow-" + server.name + ".svg"
		if !strings.Contains(string(docs), "]("+image+")") {
			require.NoFileExists(t, "../docs/"+image)
			continue
		}
		_, section, _ := strings.Cut(string(docs), "\n### "+server.title+"\n\n")
		table, _, _ := strings.Cut(section, "\n\n")
		drawn := filepath.Join(t.TempDir(), image)
		if *update {
			drawn = "../docs/" + image
		}
		require.NoError(t, plotTable(server.title, table, drawn))
		want, err := os.ReadFile(drawn)
		require.NoError(t, err)
		got, err := os.ReadFile("../docs/" + image)
		require.NoError(t, err)
		require.True(t, string(want) == string(got), "docs/%s is not of the table: cd bench && go test -update", image)
	}
}

// The tables of docs/performance.md have the form that this program writes.
func TestDocumentedTablesHaveThisForm(t *testing.T) {
	docs, err := os.ReadFile("../docs/performance.md")
	require.NoError(t, err)
	for _, server := range servers {
		_, section, found := strings.Cut(string(docs), "\n### "+server.title+"\n\n"+header)
		require.True(t, found, server.title)
		for i, workers := range []string{"8", "32", "128"} {
			for j, policy := range policies {
				line := strings.Split(section, "\n")[i*len(policies)+j]
				require.Regexp(t, `^\| `+workers+` \| `+policy.row+` \| \d+ \| (0|[\d.]+ %) \| [\d.]+ \|( ([\d.]+|never) \|){3} [\d.]+ \| ([\d.]+|never) \|$`, line)
			}
		}
	}
}

func TestInputWithoutResultsIsAnError(t *testing.T) {
	require.ErrorContains(t, run(t.TempDir(), nil), "use: bench")
	require.ErrorContains(t, run(t.TempDir(), []string{"go.mod"}), "no results of BenchmarkHotRow")
	require.ErrorIs(t, run(t.TempDir(), []string{"absent"}), os.ErrNotExist)

	broken := filepath.Join(t.TempDir(), "broken.txt")
	require.NoError(t, os.WriteFile(broken, []byte("BenchmarkHotRow/script/8/none-2 1 many ok/s\n"), 0o600))
	require.ErrorContains(t, run(t.TempDir(), []string{broken}), `the value "many" of ok/s must be a number`)
}
