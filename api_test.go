package dsql_test

import (
	"bytes"
	"flag"
	"go/ast"
	"go/build"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite testdata/api")

// The exported names are those of testdata/api, so that a change of them is seen in review. After an
// intended one: go test -run TestAPI . -update
func TestAPI(t *testing.T) {
	for name, dir := range map[string]string{"dsql": ".", "occ": "occ", "dsqltest": "dsqltest"} {
		golden := filepath.Join("testdata", "api", name+".txt")
		got := exported(t, dir)
		if *update {
			require.NoError(t, os.MkdirAll(filepath.Dir(golden), 0o755))
			require.NoError(t, os.WriteFile(golden, []byte(got), 0o644))
		}
		want, err := os.ReadFile(golden)
		require.NoError(t, err)
		require.Equal(t, strings.ReplaceAll(string(want), "\r\n", "\n"), got, "the API of %s has changed: if that is intended, go test -run TestAPI . -update", name)
	}
}

// exported returns the declarations of a package's exported names, sorted.
func exported(t *testing.T, dir string) string {
	t.Helper()
	pkg, err := build.ImportDir(dir, 0)
	require.NoError(t, err)
	var all []string
	for _, name := range pkg.GoFiles {
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.FileExports(file)
		for _, decl := range file.Decls {
			for _, one := range single(decl) {
				var text bytes.Buffer
				require.NoError(t, format.Node(&text, fset, one))
				all = append(all, normal(text.String()))
			}
		}
	}
	slices.Sort(all)
	require.NotEmpty(t, all)
	return strings.Join(all, "")
}

// normal returns a declaration without empty lines and alignment, which depend on its neighbors.
func normal(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		indent := len(line) - len(strings.TrimLeft(line, "\t"))
		if words := strings.Fields(line); len(words) > 0 {
			b.WriteString(strings.Repeat("\t", indent) + strings.Join(words, " ") + "\n")
		}
	}
	return b.String()
}

// single returns the declarations in a group, functions without their bodies, and no imports or
// methods of types that are not exported.
func single(decl ast.Decl) (all []ast.Node) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		d.Body = nil
		if d.Recv == nil || ast.IsExported(receiver(d.Recv.List[0].Type)) {
			all = append(all, d)
		}
	case *ast.GenDecl:
		if d.Tok == token.IMPORT {
			return nil
		}
		if d.Tok == token.CONST { // iota
			return []ast.Node{d}
		}
		for _, spec := range d.Specs {
			all = append(all, &ast.GenDecl{Tok: d.Tok, Specs: []ast.Spec{spec}})
		}
	}
	return all
}

func receiver(expr ast.Expr) string {
	switch e := expr.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}
