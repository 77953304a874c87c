package params

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Refused are session parameters that DSQL refuses with 0A000, and what to
// do without them. Known from real clusters and from
// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/accessing.html
var Refused = map[string]string{
	"role":                                "open a pool for each role, with WithUser",
	"statement_timeout":                   "set a deadline on the context of each query",
	"lock_timeout":                        "nothing waits for locks; set a deadline on the context",
	"idle_in_transaction_session_timeout": "leave it out; DSQL ends each transaction after 5 minutes",
	"idle_session_timeout":                "set pool_max_conn_idle_time",
	"default_transaction_isolation":       "leave it out; every transaction is repeatable read",
	"default_transaction_read_only":       "use pgx.TxOptions{AccessMode: pgx.ReadOnly}",
	"client_min_messages":                 "filter notices in OnNotice of the pgx configuration",
	"row_security":                        "leave it out",
	"standard_conforming_strings":         "leave it out; it is always on",
	"synchronize_seqscans":                "leave it out",
	"work_mem":                            "leave it out; DSQL manages memory itself",
}

func Check(params map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if err := CheckOne(name, params[name]); err != nil {
			return err
		}
	}
	return nil
}

func CheckOne(name, value string) error {
	switch strings.ToLower(name) {
	case "":
		return errors.New("dsql: a runtime parameter has an empty name")
	case "user":
		return errors.New("dsql: the role is not a runtime parameter: use WithUser")
	case "password":
		return errors.New("dsql: the password is not a runtime parameter: tokens are made for you")
	case "database", "dbname":
		return errors.New("dsql: the database is not a runtime parameter: it is always postgres")
	case "options":
		if err := checkOptions(value); err != nil {
			return err
		}
	}
	if strings.ContainsRune(name, 0) || strings.ContainsRune(value, 0) {
		return fmt.Errorf("dsql: the runtime parameter %q has a NUL in it", name)
	}
	return checkRefused(name)
}

func checkRefused(name string) error {
	if instead, ok := Refused[strings.ToLower(name)]; ok {
		return fmt.Errorf("dsql: DSQL refuses the parameter %q, so no connection would open: %s", name, instead)
	}
	return nil
}

// optionShape is one parameter in the startup options: -c name=, -cname= or
// --name=, after white space that no backslash escapes.
var optionShape = regexp.MustCompile(`(?:^\s*|[^\\]\s)(?:-c\s*|--)([\w.-]+)`)

func checkOptions(options string) error {
	for _, m := range optionShape.FindAllStringSubmatch(options, -1) {
		if err := checkRefused(strings.ReplaceAll(m[1], "-", "_")); err != nil { // as PostgreSQL reads it
			return err
		}
	}
	return nil
}

// AppendOption adds a parameter to the startup options, in which a backslash is
// before each space and backslash of a value.
func AppendOption(options, name, value string) string {
	if options != "" {
		options += " "
	}
	return options + "-c " + name + "=" + optionEscape.ReplaceAllString(value, `\$0`)
}

var optionEscape = regexp.MustCompile(`[\\\s\v]`)

// Settings are what Config.Settings may have: whether a value is one, and what is
// wanted.
var Settings = map[string]struct {
	valid func(string) bool
	want  string
}{
	"sslnegotiation":                {isOneOf("direct", "postgres"), "direct or postgres"},
	"default_query_exec_mode":       {isOneOf("cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"), "cache_statement, cache_describe, describe_exec, exec or simple_protocol"},
	"connect_timeout":               {isNumber(1), "whole seconds, 1 or more"},
	"pool_max_conns":                {isNumber(1), "a whole number, 1 or more"},
	"pool_min_conns":                {isNumber(0), "a whole number, 0 or more"},
	"pool_min_idle_conns":           {isNumber(0), "a whole number, 0 or more"},
	"pool_max_conn_lifetime":        {isDuration(1), "a Go duration over 0, such as 50m"},
	"pool_max_conn_lifetime_jitter": {isDuration(0), "a Go duration, such as 5m"},
	"pool_max_conn_idle_time":       {isDuration(1), "a Go duration over 0, such as 10m"},
	"pool_health_check_period":      {isDuration(1), "a Go duration over 0, such as 1m"},
}

func CheckSettings(given map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(given)) {
		setting, ok := Settings[name]
		if !ok {
			return fmt.Errorf("dsql: Settings has no %q: it has %s", name, strings.Join(slices.Sorted(maps.Keys(Settings)), ", "))
		}
		if value := given[name]; !setting.valid(value) {
			return fmt.Errorf("dsql: %s is %.40q: give %s", name, value, setting.want)
		}
	}
	return nil
}

func isOneOf(values ...string) func(string) bool {
	return func(s string) bool { return slices.Contains(values, s) }
}

func isNumber(least uint64) func(string) bool {
	return func(s string) bool {
		n, err := strconv.ParseUint(s, 10, 31)
		return err == nil && n >= least
	}
}

func isDuration(least time.Duration) func(string) bool {
	return func(s string) bool {
		d, err := time.ParseDuration(s)
		return err == nil && d >= least
	}
}

// ClusterOption is the startup option that names the cluster where TLS does not:
// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/privatelink-managing-clusters.html
const ClusterOption = "amzn-cluster-id"
