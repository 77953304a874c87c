package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// command is one subcommand. Its help and its page in docs/cli.md are made from these fields.
type command struct {
	name     string
	args     string // what follows the name
	summary  string // one line
	about    string // paragraphs
	examples string
	statuses string // exit statuses other than 0, 1 and 2
	// define adds the flags and returns what runs when they have been parsed.
	define func(*flag.FlagSet) func(context.Context, streams, arguments) error
}

// arguments are what is not a flag.
type arguments struct {
	words []string // before a --
	rest  []string // after it
}

func (c *command) execute(ctx context.Context, std streams, args []string) error {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	run := c.define(flags)
	given, err := parse(flags, args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(std.out, c.help())
		return nil
	}
	if err != nil {
		return usageError("%s: %s: run dsql help %s", c.name, flagError(err), c.name)
	}
	return run(ctx, std, given)
}

// parse takes flags before, between and after the words. Everything that follows a -- or an --exec
// belongs to another program.
func parse(flags *flag.FlagSet, args []string) (arguments, error) {
	var given arguments
	isEnd := func(arg string) bool {
		return arg == "--" || flags.Lookup("exec") != nil && (arg == "--exec" || arg == "-exec")
	}
	if i := slices.IndexFunc(args, isEnd); i >= 0 {
		if args[i] != "--" {
			_ = flags.Set("exec", "true")
		}
		args, given.rest = args[:i], args[i+1:]
	}
	for len(args) > 0 {
		if err := flags.Parse(args); err != nil {
			return given, err
		}
		if flags.NArg() == 0 {
			break
		}
		given.words = append(given.words, flags.Arg(0))
		args = flags.Args()[1:]
	}
	return given, nil
}

// flagError writes flags as the help does, with two dashes.
func flagError(err error) string {
	text := err.Error()
	for _, before := range []string{"not defined: ", "needs an argument: ", "for flag "} {
		text = strings.Replace(text, before+"-", before+"--", 1)
	}
	return strings.Replace(text, "flag provided but not defined: ", "unknown flag ", 1)
}

// text adds a flag that takes a text, which may not be empty: an unset variable of a script would
// else mean the default.
func text(flags *flag.FlagSet, p *string, name, usage string) {
	flags.Func(name, usage, func(value string) error {
		if value == "" {
			return errors.New("must not be empty; leave the flag out for the default")
		}
		*p = value
		return nil
	})
}

// atMost returns the words if there are no more than n.
func (a arguments) atMost(n int, command string) ([]string, error) {
	words := append(slices.Clone(a.words), a.rest...)
	if len(words) > n {
		return nil, usageError("%s: unexpected argument %q: run dsql help %s", command, words[n], command)
	}
	return words, nil
}

// first returns the first word, or "".
func first(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return words[0]
}

func help(w io.Writer, args []string) error {
	if len(args) == 0 {
		fmt.Fprint(w, overview())
		return nil
	}
	c, err := find(args[0])
	if err != nil {
		return err
	}
	fmt.Fprint(w, c.help())
	return nil
}

func overview() string {
	var b strings.Builder
	b.WriteString("dsql works with Amazon Aurora DSQL from the shell.\n\nUsage: dsql COMMAND [ARGUMENTS]\n\n")
	for _, c := range commands {
		fmt.Fprintf(&b, "  %-8s %s\n", c.name, c.summary)
	}
	fmt.Fprintf(&b, "  %-8s %s\n", "help", "explain a command: dsql help COMMAND")
	fmt.Fprintf(&b, "  %-8s %s\n", "version", "print the version")
	b.WriteString(common)
	return b.String()
}

// common is the part of the help that holds for every command.
const common = `
ENDPOINT is a cluster's host name, its 26-character ID with --region, or a URL
(postgres://app@HOST/postgres). Without it DSQL_ENDPOINT, DSQL_REGION, DSQL_USER, DSQL_PROFILE,
DSQL_DIAL_ADDRESS, DSQL_ROOT_CERT and, for doctor and load, DSQL_FAILOVER of the environment are
used; flags override them. Flags may stand before or after ENDPOINT. Credentials come from the AWS SDK's default
chain.

Errors go to standard error and begin with "dsql: ". Output has no color.

Exit status: 0 success, 1 failure, 2 wrong usage. Commands list what else they return.
`

func (c *command) help() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: dsql %s %s\n\n%s\n", c.name, c.args, strings.TrimSpace(c.about))
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	c.define(flags)
	b.WriteString("\nFlags:\n")
	flags.VisitAll(func(f *flag.Flag) {
		value, usage := flag.UnquoteUsage(f)
		if value != "" {
			value = " " + value
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" {
			usage += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(&b, "  --%s%s\n        %s\n", f.Name, value, strings.ReplaceAll(usage, "\n", "\n        "))
	})
	fmt.Fprintf(&b, "\nExamples:\n%s", indent(c.examples))
	fmt.Fprintf(&b, "\nExit status:\n%s", indent("0    success\n1    failure\n2    wrong usage\n"+strings.TrimSpace(c.statuses)))
	return b.String()
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimSpace(text) + "\n") {
		b.WriteString("  " + line)
	}
	return b.String()
}
