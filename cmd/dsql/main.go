// Command dsql works with Amazon Aurora DSQL from the shell: it prints tokens, runs psql, diagnoses
// connections, loads CSV files, and serves a local cluster to programs in any language.
//
//	go install github.com/go-dsql/dsql/cmd/dsql@latest
//	dsql help
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/go-dsql/dsql"
)

// Exit statuses that every command has.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// streams are what a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// commands are in the order of the help.
var commands = []*command{tokenCommand, psqlCommand, doctorCommand, loadCommand, serveCommand}

func main() {
	ctx := untilSignal()
	// pgx reads them even where every setting is named.
	_ = os.Unsetenv("PGSERVICE")
	_ = os.Unsetenv("PGSERVICEFILE")
	os.Exit(run(ctx, streams{os.Stdin, os.Stdout, os.Stderr}, os.Args[1:]))
}

// untilSignal returns a context that the first signal ends. The second one kills, as usual.
func untilSignal() context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx
}

// run carries out a command line and returns its exit status.
func run(ctx context.Context, std streams, args []string) int {
	err := dispatch(ctx, std, args)
	if err == nil {
		return exitOK
	}
	code := exitFailed
	var exit *exitError
	if errors.As(err, &exit) {
		code = exit.code
	}
	if text := message(err); text != "" {
		fmt.Fprintln(std.err, text)
	}
	return code
}

func dispatch(ctx context.Context, std streams, args []string) error {
	if len(args) == 0 {
		fmt.Fprint(std.err, overview())
		return &exitError{code: exitUsage}
	}
	name, args := args[0], args[1:]
	switch name {
	case "help", "-h", "-help", "--help":
		return help(std.out, args)
	case "version", "-version", "--version":
		fmt.Fprintln(std.out, "dsql", version(), runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH)
		return nil
	}
	c, err := find(name)
	if err != nil {
		return err
	}
	return c.execute(ctx, std, args)
}

func find(name string) (*command, error) {
	for _, c := range commands {
		if c.name == name {
			return c, nil
		}
	}
	return nil, usageError("unknown command %q: run dsql help for the list", name)
}

// exitError is an error with an exit status. An err of nil has been reported already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func usageError(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf("dsql: "+format, args...)}
}

// message returns what is printed for err: the error, and what to do where Explain knows.
func message(err error) string {
	text := strings.ReplaceAll(err.Error(), "dsqltest: ", "")
	if text == "" {
		return ""
	}
	if !strings.HasPrefix(text, "dsql: ") {
		text = "dsql: " + text
	}
	if advice := dsql.Explain(err); advice != "" && !strings.Contains(text, advice) {
		text += "\n" + advice
	}
	return asFlags(text)
}

// asFlags names the flags of this command where a text names the options of the library.
func asFlags(text string) string {
	return strings.NewReplacer("WithRootCAs", "--root-cert", "WithDialAddress", "--dial-address", "WithProfile", "--profile",
		"WithUser", "--user", "WithTokenLifetime", "--expires").Replace(text)
}

// version returns the module's version, as go install records it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
