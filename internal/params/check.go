package params

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-dsql/dsql/internal/redact"
)

// Check refuses session parameters with which no connection would open. Of several, the error is the
// first one's by name.
func Check(params map[string]string) error {
	first, err := "", error(nil)
	for name, value := range params {
		if e := CheckOne(name, value); e != nil && (err == nil || name < first) {
			first, err = name, e
		}
	}
	return err
}

// CheckOne is Check for one parameter.
func CheckOne(name, value string) error {
	switch strings.ToLower(name) {
	case "":
		return errors.New("dsql: a runtime parameter must not have an empty name")
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
		return fmt.Errorf("dsql: the runtime parameter %s must not contain a NUL byte", redact.Value(name))
	}
	return checkRefused(name)
}

func checkRefused(name string) error {
	if advice, ok := Advice(name); ok {
		return fmt.Errorf("dsql: DSQL refuses the parameter %q, so no connection would open: %s", name, advice)
	}
	return nil
}

func checkOptions(options string) error {
	parsed, err := ParseOptions(options)
	for _, o := range parsed {
		if err := checkRefused(o.Name); err != nil {
			return err
		}
	}
	if err != nil {
		return redact.Wrap("dsql: the runtime parameter options is not as PostgreSQL reads it, such as -c name=value", err)
	}
	return nil
}

// Settings holds what Config.Settings may have: whether a value is valid, and what it must be.
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

// CheckSettings refuses settings that are unknown or have an invalid value.
func CheckSettings(given map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(given)) {
		setting, ok := Settings[name]
		if !ok {
			return fmt.Errorf("dsql: Settings has no %s: it has %s", redact.Value(name), strings.Join(slices.Sorted(maps.Keys(Settings)), ", "))
		}
		if value := given[name]; !setting.valid(value) {
			return fmt.Errorf("dsql: %s is %s and must be %s", name, redact.Value(value), setting.want)
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
