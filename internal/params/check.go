package params

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Check returns an error for the first parameter, in the order of names, that must not be sent at
// startup.
func Check(params map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if err := CheckOne(name, params[name]); err != nil {
			return err
		}
	}
	return nil
}

// CheckOne returns an error if the parameter must not be sent at startup.
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
		return fmt.Errorf("dsql: invalid runtime parameter options: %w", err)
	}
	return nil
}

// Settings maps the names that Config.Settings may have to the check of a value and what is expected.
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

// CheckSettings returns an error for the first setting that is unknown or has an invalid value.
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
