package proxy

// tables knows the tables that statements name. It has a session of its own, because a long
// statement takes longer to search than others may wait for a lock.
type tables struct {
	ownSession

	known   map[string][][]byte
	catalog int64 // the version of the schema in which they are known
}

// Bounds of tables.known: statements, and bytes of each.
const (
	maxKnown       = 1000
	maxKnownLength = 4 << 10
)

// of returns the tables that statements name, as the five arrays of sys.tables_of.
func (t *tables) of(p *Proxy, sql string) [][]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	catalog := p.catalog.Load()
	if t.known == nil || t.catalog != catalog || len(t.known) >= maxKnown {
		t.known, t.catalog = make(map[string][][]byte), catalog
	}
	if found, ok := t.known[sql]; ok {
		return found
	}
	unchanged := p.ddl.Load() == 0
	found := make([][]byte, 5)
	err := t.query(p, "SELECT ids::text, schemas::text, names::text, owners::text, plain::text FROM sys.tables_of($1)", []any{sql},
		&found[0], &found[1], &found[2], &found[3], &found[4])
	if err == nil && unchanged && len(sql) <= maxKnownLength {
		t.known[sql] = found
	}
	return found
}
