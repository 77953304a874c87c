package proxy

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5"
)

// monitor asks PostgreSQL about roles, sessions and tables, over a connection that it opens when it is
// first needed.
type monitor struct {
	mu   sync.Mutex
	conn *pgx.Conn

	tables  map[string][][]byte // what tablesOf has returned
	catalog int64               // for this version of the schema
}

// maxTables bounds monitor.tables.
const maxTables = 1000

// blockers returns the PIDs of the PostgreSQL backends that block a session.
func (m *monitor) blockers(p *Proxy, pid uint32) (blockers []uint32) {
	_ = m.ask(p, &blockers, "SELECT pg_blocking_pids($1)", pid)
	return blockers
}

// tablesOf returns the tables that statements name, as five arrays of sys.tables_of.
func (m *monitor) tablesOf(p *Proxy, sql string) [][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := p.catalog.Load(); m.tables == nil || m.catalog != now || len(m.tables) >= maxTables {
		m.tables, m.catalog = make(map[string][][]byte), now
	}
	if tables, ok := m.tables[sql]; ok {
		return tables
	}
	tables := make([][]byte, 5)
	err := m.query(p, "SELECT ids::text, schemas::text, names::text, owners::text, plain::text FROM sys.tables_of($1)", []any{sql},
		&tables[0], &tables[1], &tables[2], &tables[3], &tables[4])
	if err == nil {
		m.tables[sql] = tables
	}
	return tables
}

// ask executes a query of one value.
func (m *monitor) ask(p *Proxy, value any, sql string, args ...any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.query(p, sql, args, value)
}

// query executes a query of one row, again on a new connection if PostgreSQL has ended an old one.
// m.mu must be held.
func (m *monitor) query(p *Proxy, sql string, args []any, values ...any) error {
	for {
		old := m.conn != nil && !m.conn.IsClosed()
		if !old {
			conn, err := p.cfg.Server.Connect(p.ctx, p.cfg.Database)
			if err != nil {
				return err
			}
			m.conn = conn
		}
		err := m.conn.QueryRow(p.ctx, sql, args...).Scan(values...)
		if err == nil || !old || !m.conn.IsClosed() {
			return err
		}
	}
}

func (m *monitor) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		m.conn.Close(context.Background())
		m.conn = nil
	}
}
