// Package params knows which session parameters DSQL accepts and refuses, and reads the startup
// parameter "options" as PostgreSQL does.
package params

import (
	"fmt"
	"slices"
	"strings"
)

// settable lists the parameters that a session may set:
// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/accessing.html
var settable = []string{
	"application_name", "client_encoding", "datestyle", "disable_sync_create_index", "dsql.enable_batched_nestloop",
	"enable_bitmapscan", "enable_hashjoin", "enable_indexonlyscan", "enable_indexscan", "enable_material",
	"enable_mergejoin", "enable_nestloop", "enable_seqscan", "extra_float_digits", "intervalstyle",
	"search_path", "timezone",
}

// refused maps parameters that DSQL refuses with 0A000 to what to do instead. They are known from
// real clusters and from https://docs.aws.amazon.com/aurora-dsql/latest/userguide/accessing.html
var refused = map[string]string{
	"role":                                "use one pool for each role, with WithUser",
	"statement_timeout":                   "set a deadline on the context of each query",
	"lock_timeout":                        "nothing waits for locks; set deadlines on contexts",
	"idle_in_transaction_session_timeout": "DSQL itself ends each transaction after 5 minutes",
	"idle_session_timeout":                "the pool closes idle connections: use pool_max_conn_idle_time",
	"default_transaction_isolation":       "every transaction is repeatable read; leave it out",
	"default_transaction_read_only":       "begin with pgx.TxOptions{AccessMode: pgx.ReadOnly}",
	"client_min_messages":                 "filter in OnNotice of the pgx configuration",
	"row_security":                        "leave it out",
	"standard_conforming_strings":         "it is always on; leave it out",
	"synchronize_seqscans":                "leave it out",
	"work_mem":                            "DSQL manages memory itself; leave it out",
}

// IsSettable reports whether a session on DSQL may set the parameter. Case is ignored.
func IsSettable(name string) bool { return slices.Contains(settable, strings.ToLower(name)) }

// RefusalMessage returns DSQL's message, with SQLSTATE 0A000, for setting a parameter that is not
// settable.
func RefusalMessage(name string) string {
	return fmt.Sprintf("setting configuration parameter %q not supported", name)
}

// Advice returns what to do instead of setting a parameter that DSQL is known to refuse, and
// whether it is one. Case is ignored.
func Advice(name string) (string, bool) {
	advice, ok := refused[strings.ToLower(name)]
	return advice, ok
}

// Refused returns the names of the parameters that [Advice] knows, sorted.
func Refused() []string {
	names := make([]string, 0, len(refused))
	for name := range refused {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
