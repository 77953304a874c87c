package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSettledRejects(t *testing.T) {
	t.Parallel()
	two, three := "2,23514 check,\"2,\"\"two\r\nlines\"\",0\"\n", "3,2 fields for 3 columns,\"3,Bonn\"\n"
	large := "4,22P02 x,\"" + strings.Repeat("\"\"\n", maxRecord/2) + "\"\n"
	for _, tt := range []struct {
		name, given, want string
		rows              int64
	}{
		{"nothing", "", "", 0},
		{"all", rejectHeader + two + three, two + three, 2},
		{"without a header", two + three, two + three, 2},
		{"later ones", rejectHeader + "9,later,x\n" + two + "10,later,\"x\ny\"\n" + three, two + three, 2},
		{"cut in a quote", rejectHeader + two + three + "4,22P02 x,\"a\nb", two + three, 2},
		{"cut outside of one", rejectHeader + two + three + "4,22P02 x,a", two + three, 2},
		{"cut in the first field", rejectHeader + two + three + "4", two + three, 2},
		{"cut behind a quote", rejectHeader + two + "3,22P02 x,\"a\"", two, 1},
		{"cut header", "line,re", "", 0},
		{"larger than a record of the file may be", rejectHeader + large + two, large + two, 2},
		{"another file", "id,city\n1,Bern\nx,y,z\n", "", 0},
	} {
		kept, rows := settledRejects([]byte(tt.given), 5)
		require.True(t, rejectHeader+tt.want == string(kept), tt.name)
		require.Equal(t, tt.rows, rows, tt.name)
	}
}

// leftLoad writes a file of 5 rows, and what a load left that ended after line 4.
func leftLoad(t *testing.T, rejected string) (file string) {
	t.Helper()
	file = write(t, "f.csv", "id,city,n\n1,Bern,1\n2,\"two\r\nlines\",0\n3,Bonn,3\nfour,Brno,4\n")
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file+".progress", fmt.Appendf(nil, `{"table":"\"orders\"","size":%d,"line":4}`, info.Size()), 0o600))
	require.NoError(t, os.WriteFile(file+".rejects", []byte(rejected), 0o600))
	return file
}

const keptReject = "3,23514 check,\"2,\"\"two\r\nlines\"\",0\"\n"

// The last record may have been cut when the load was killed. All before it stay, byte for byte.
func TestLoadKeepsRejectsWhenResumed(t *testing.T) {
	t.Parallel()
	_, env, conn := loadCluster(t, orderTable)
	for _, cut := range []string{"", "6,22P02 invalid input,\"four,Br", "6,22P02 invalid input,four", "6,22P02 invalid"} {
		file := leftLoad(t, rejectHeader+keptReject+cut)
		r := runIn(t, env, "load", "orders", file)
		require.Equal(t, 3, r.code, r.err)
		require.Contains(t, r.out, " 2 rejected")
		got, err := os.ReadFile(file + ".rejects")
		require.NoError(t, err)
		require.Equal(t, rejectHeader+keptReject+"6,\"22P02 invalid input syntax for type bigint: \"\"four\"\"\",\"four,Brno,4\"\n", string(got))
		info, err := os.Stat(file + ".rejects")
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		names, err := os.ReadDir(strings.TrimSuffix(file, "/f.csv"))
		require.NoError(t, err)
		require.Len(t, names, 2, "no temporary file is left")
	}
	require.Equal(t, "3", dump(t, conn, "SELECT id::text FROM orders"))

	file := leftLoad(t, rejectHeader+keptReject)
	r := runIn(t, env, "load", "orders", file, "--max-rejects", "1")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.err, "more than 1 rows were rejected", "those of before count")
}

// What an earlier load rejected is no part of one that starts over, nor of what resumes that.
func TestLoadStartsOverWithoutRejects(t *testing.T) {
	t.Parallel()
	_, env, _ := loadCluster(t, orderTable)
	for _, args := range [][]string{{}, {"--restart"}} {
		file := leftLoad(t, rejectHeader+keptReject)
		if len(args) == 0 {
			require.NoError(t, os.Remove(file+".progress"))
		}
		// It ends before the first batch is settled.
		r := runIn(t, env, append([]string{"load", "orders", file, "--columns", "id,nope,n"}, args...)...)
		require.Equal(t, 1, r.code)
		require.Contains(t, r.err, "42703")
		require.NoFileExists(t, file+".progress")
		got, err := os.ReadFile(file + ".rejects")
		require.NoError(t, err)
		require.Empty(t, string(got))
	}
}

// A reject file may be a link or a device.
func TestLoadRejectsToALink(t *testing.T) {
	t.Parallel()
	_, env, _ := loadCluster(t, orderTable)
	file := leftLoad(t, "")
	require.NoError(t, os.Remove(file+".rejects"))
	target := write(t, "target", rejectHeader+keptReject)
	require.NoError(t, os.Symlink(target, file+".rejects"))
	r := runIn(t, env, "load", "orders", file)
	require.Equal(t, 3, r.code, r.err)
	got, err := os.ReadFile(target)
	require.NoError(t, err)
	require.Contains(t, string(got), rejectHeader+keptReject+"6,")

	r = runIn(t, env, "load", "orders", file, "--rejects", "/dev/stdout")
	require.Equal(t, 3, r.code, r.err)
	require.Contains(t, r.out, rejectHeader+"3,")
}

// A file to load is no reject file, nor is one that no load has written: neither is changed.
func TestLoadKeepsFilesThatAreNoRejectFiles(t *testing.T) {
	t.Parallel()
	_, env, _ := loadCluster(t, orderTable)
	const rows = "id,city,n\n1,Bern,1\n"
	file := write(t, "f.csv", rows)
	behind := file + ".rejects"
	require.NoError(t, os.WriteFile(behind, []byte(rejectHeader), 0o600))
	for _, args := range [][]string{{file, "--rejects", file}, {file, behind}} {
		r := runIn(t, env, append([]string{"load", "orders"}, args...)...)
		require.Equal(t, 2, r.code, r.err)
		require.Contains(t, r.err, " is a file to load and the reject file of ")
	}
	require.NoError(t, os.WriteFile(behind, []byte("notes\n"), 0o600))
	r := runIn(t, env, "load", "orders", file)
	require.Equal(t, 1, r.code, r.err)
	require.Contains(t, r.err, " is not a reject file of dsql load: name another with --rejects")
	for name, want := range map[string]string{file: rows, behind: "notes\n"} {
		got, err := os.ReadFile(name)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
}
