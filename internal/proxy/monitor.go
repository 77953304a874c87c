package proxy

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5"
)

// ownSession is a session of the proxy's own on PostgreSQL, opened when it is first needed.
type ownSession struct {
	mu   sync.Mutex
	conn *pgx.Conn
}

// ask executes a query of one row.
func (o *ownSession) ask(p *Proxy, sql string, args []any, values ...any) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.query(p, sql, args, values...)
}

// query is ask for callers that hold o.mu. If PostgreSQL has ended the session, it executes the query
// in a new one.
func (o *ownSession) query(p *Proxy, sql string, args []any, values ...any) error {
	for {
		old := o.conn != nil && !o.conn.IsClosed()
		if !old {
			conn, err := p.cfg.Server.Connect(p.ctx, p.cfg.Database)
			if err != nil {
				return err
			}
			o.conn = conn
		}
		err := o.conn.QueryRow(p.ctx, sql, args...).Scan(values...)
		if err == nil || !old || !o.conn.IsClosed() {
			return err
		}
	}
}

func (o *ownSession) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.conn != nil {
		o.conn.Close(context.Background())
		o.conn = nil
	}
}

// monitor asks PostgreSQL about sessions and roles. Its queries are short.
type monitor struct {
	ownSession

	joining sync.Mutex
	next    *round
}

// round is one query for all sessions that ask while the previous query is executed.
type round struct {
	once     sync.Once
	pids     []uint32
	blockers map[uint32][]uint32
}

// blockers returns the PIDs of the PostgreSQL backends that block a session.
func (m *monitor) blockers(p *Proxy, pid uint32) []uint32 {
	r := m.join(pid)
	r.once.Do(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.begin()
		var waiting, blocking []uint32
		_ = m.query(p, "SELECT array_agg(pid), array_agg(blocker) FROM unnest($1::int[]) AS pid, unnest(pg_blocking_pids(pid)) AS blocker",
			[]any{r.pids}, &waiting, &blocking)
		r.blockers = make(map[uint32][]uint32)
		for i, pid := range waiting {
			r.blockers[pid] = append(r.blockers[pid], blocking[i])
		}
	})
	return r.blockers[pid]
}

// join adds a session to the next round.
func (m *monitor) join(pid uint32) *round {
	m.joining.Lock()
	defer m.joining.Unlock()
	if m.next == nil {
		m.next = new(round)
	}
	m.next.pids = append(m.next.pids, pid)
	return m.next
}

// begin closes the next round to others.
func (m *monitor) begin() {
	m.joining.Lock()
	defer m.joining.Unlock()
	m.next = nil
}
