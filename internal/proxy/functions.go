package proxy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
)

var (
	// explained matches a write that EXPLAIN executes.
	explained = regexp.MustCompile(`(?is)^\s*explain\b.*\banaly[sz]e\b.*\b(insert|update|delete)\b`)
	// volatile matches a query whose answer must be the same when the transaction's writes are
	// executed again: see sys.next_random.
	volatile = regexp.MustCompile(`(?i)\b(gen_random_uuid|random|nextval)\s*\(`)
	// namesFunction matches DDL that gives a function its name.
	namesFunction = regexp.MustCompile(`(?is)^\s*(?:create\s+(?:or\s+replace\s+)?function|alter\s+(?:function|routine)\b.*\brename\s+to)\s+(?:[^\s(]+\.)?"?([^\s("]+)`)
)

// functions are the names of the cluster's own functions, any of which may write.
type functions struct {
	mu    sync.RWMutex
	names []string
}

// add records the function that DDL creates or renames.
func (f *functions) add(ddl string) {
	if m := namesFunction.FindStringSubmatch(ddl); m != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.names = append(f.names, strings.ToLower(m[1]))
	}
}

// isCalledIn reports whether a statement may call one of the functions.
func (f *functions) isCalledIn(sql string) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if len(f.names) == 0 {
		return false
	}
	sql = strings.ToLower(sql)
	for _, name := range f.names {
		if strings.Contains(sql, name) {
			return true
		}
	}
	return false
}

// LoadFunctions records the functions of a database that was not made by statements through this
// cluster.
func (p *Proxy) LoadFunctions() error {
	var names string
	err := p.monitor.ask(p, `SELECT coalesce(string_agg(lower(p.proname), E'\n'), '')
		FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'sys')`, nil, &names)
	if err != nil {
		return fmt.Errorf("dsqltest: listing the functions: %w", err)
	}
	p.AddFunctions(strings.Fields(names))
	return nil
}

// AddFunctions records functions, as [Proxy.Functions] of the cluster that a database was copied from
// returned them.
func (p *Proxy) AddFunctions(names []string) {
	p.functions.mu.Lock()
	defer p.functions.mu.Unlock()
	p.functions.names = append(p.functions.names, names...)
}

// Functions returns the names of the cluster's own functions.
func (p *Proxy) Functions() []string {
	p.functions.mu.RLock()
	defer p.functions.mu.RUnlock()
	return slices.Clone(p.functions.names)
}
