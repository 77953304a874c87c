package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// stressFactor multiplies the steps of the stress tests: DSQLTEST_STRESS, by default 1.
func stressFactor(t *testing.T) int {
	t.Helper()
	factor, err := strconv.Atoi(os.Getenv("DSQLTEST_STRESS"))
	if err != nil {
		return 1
	}
	return factor
}

func newSeed(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if given, err := strconv.ParseUint(os.Getenv("DSQLTEST_SEED"), 10, 64); err == nil {
		seed = given
	}
	t.Logf("DSQLTEST_SEED=%d", seed)
	return seed
}

const stressSessions = 16

// model is a table (id, n) under snapshot isolation, in which the first to commit wins.
type model struct {
	rows    map[int]int
	changes []change // committed, oldest first
}

type change struct {
	id        int
	exclusive bool // not an update of n only
}

// modelTx is a transaction on a model.
type modelTx struct {
	begun   bool // the snapshot has been taken
	seen    int  // number of changes in the snapshot
	before  map[int]int
	rows    map[int]int
	changes []change
}

func (m *model) snapshot(tx *modelTx) {
	if !tx.begun {
		*tx = modelTx{begun: true, seen: len(m.changes), before: maps.Clone(m.rows), rows: maps.Clone(m.rows)}
	}
}

// commit reports whether the transaction wins.
func (m *model) commit(tx *modelTx) bool {
	for _, theirs := range m.changes[min(tx.seen, len(m.changes)):] {
		for _, ours := range tx.changes {
			_, was := tx.before[ours.id]
			_, is := m.rows[ours.id]
			// A key that came and went since the snapshot leaves no trace in PostgreSQL.
			if tx.begun && ours.id == theirs.id && (was || is) {
				return false
			}
		}
	}
	for _, c := range tx.changes {
		if n, ok := tx.rows[c.id]; ok {
			m.rows[c.id] = n
		} else {
			delete(m.rows, c.id)
		}
	}
	m.changes = append(m.changes, tx.changes...)
	return true
}

// modelSession is a session whose every answer is compared with the model.
type modelSession struct {
	conn   *pgx.Conn
	rng    *rand.Rand
	model  *model
	tx     modelTx
	inTx   bool
	failed bool
	told   string // the step, for messages
}

// step executes a random statement.
func (s *modelSession) step(t *testing.T) {
	if s.failed || s.inTx && s.rng.IntN(6) == 0 {
		s.end(t)
		return
	}
	if !s.inTx {
		if s.rng.IntN(5) > 0 {
			apply(t, s.conn, "BEGIN")
			s.inTx, s.tx, s.told = true, modelTx{}, "BEGIN"
			return
		}
		s.tx = modelTx{}
	}
	s.model.snapshot(&s.tx)
	s.statement(t)
	if !s.inTx && !s.failed {
		require.True(t, s.model.commit(&s.tx))
	}
	s.failed = s.failed && s.inTx
}

func (s *modelSession) end(t *testing.T) {
	s.told = "COMMIT"
	if s.rng.IntN(4) == 0 && !s.failed {
		s.told = "ROLLBACK"
	}
	_, err := s.conn.Exec(t.Context(), s.told)
	switch {
	case s.failed, s.told == "ROLLBACK":
		if !errors.Is(err, pgx.ErrTxCommitRollback) {
			require.NoError(t, err)
		}
	case s.model.commit(&s.tx):
		require.NoError(t, err)
	default:
		requireError(t, err, "40001", lostWords)
	}
	s.inTx, s.failed = false, false
}

func (s *modelSession) statement(t *testing.T) {
	id, n := 1+s.rng.IntN(8), s.rng.IntN(1000)
	mode := modes[s.rng.IntN(len(modes))]
	old, exists := s.tx.rows[id]
	count := 0
	if exists {
		count = 1
	}
	exec := func(verb, sql string, args ...int) {
		t.Helper()
		s.told = fmt.Sprint(sql, args)
		requireTag(t, s.conn, mode, fmt.Sprintf("%s %d", verb, count), sql, anys(args)...)
		if exists {
			s.tx.changes = append(s.tx.changes, change{id, verb != "UPDATE"})
		}
	}
	switch s.rng.IntN(8) {
	case 0:
		exec("UPDATE", "UPDATE t SET n = $2 WHERE id = $1", id, n)
		if exists {
			s.tx.rows[id] = n
		}
	case 1:
		s.told = "UPDATE RETURNING"
		var got int
		err := s.conn.QueryRow(t.Context(), "UPDATE t SET n = n + $2 WHERE id = $1 RETURNING n", mode, id, n).Scan(&got)
		if !exists {
			require.ErrorIs(t, err, pgx.ErrNoRows)
			return
		}
		require.NoError(t, err)
		require.Equal(t, old+n, got)
		s.tx.rows[id] = got
		s.tx.changes = append(s.tx.changes, change{id, false})
	case 2:
		exec("DELETE", "DELETE FROM t WHERE id = $1", id)
		delete(s.tx.rows, id)
	case 3:
		if _, still := s.model.rows[id]; exists && !still { // PostgreSQL accepts the key that its snapshot shows
			return
		}
		s.told = fmt.Sprint("INSERT ", id)
		_, err := s.conn.Exec(t.Context(), "INSERT INTO t VALUES ($1, $2)", mode, id, n)
		if exists {
			require.ErrorContains(t, err, "23505")
			s.failed = true
			return
		}
		require.NoError(t, err)
		s.tx.rows[id] = n
		s.tx.changes = append(s.tx.changes, change{id, true})
	case 4:
		exec("SELECT", "SELECT FROM t WHERE id = $1 FOR UPDATE", id)
	case 5:
		s.told = "UPDATE of all"
		requireTag(t, s.conn, mode, fmt.Sprintf("UPDATE %d", len(s.tx.rows)), "UPDATE t SET n = n + $1", n)
		for id := range s.tx.rows {
			s.tx.rows[id] += n
			s.tx.changes = append(s.tx.changes, change{id, false})
		}
	default:
		s.told = "SELECT"
		require.Equal(t, s.tx.rows, readRows(t, s.conn, mode))
	}
}

func readRows(t *testing.T, conn *pgx.Conn, mode pgx.QueryExecMode) map[int]int {
	t.Helper()
	rows, err := conn.Query(t.Context(), "SELECT id, n FROM t", mode)
	require.NoError(t, err)
	got := map[int]int{}
	var id, n int
	_, err = pgx.ForEachRow(rows, []any{&id, &n}, func() error { got[id] = n; return nil })
	require.NoError(t, err)
	return got
}

// Sessions take turns, so that the model tells every answer.
func TestModelOfFirstToCommitWins(t *testing.T) {
	seed := newSeed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	c := start(t)
	setup := connect(t, c)
	apply(t, setup, "CREATE TABLE t (id int PRIMARY KEY, n int)", "INSERT INTO t SELECT i, 0 FROM generate_series(1, 5) i")
	m := &model{rows: map[int]int{1: 0, 2: 0, 3: 0, 4: 0, 5: 0}}
	sessions := make([]*modelSession, stressSessions)
	for i := range sessions {
		sessions[i] = &modelSession{conn: connect(t, c), rng: rng, model: m}
	}
	var history []string
	defer func() {
		if t.Failed() {
			for _, line := range history[max(0, len(history)-60):] {
				t.Log(line)
			}
		}
	}()
	for range 150 * stressFactor(t) {
		i := rng.IntN(len(sessions))
		s := sessions[i]
		history = append(history, "")
		func() {
			defer func() { history[len(history)-1] = fmt.Sprintf("session %d: %s %v", i, s.told, s.tx.rows) }()
			s.step(t)
		}()
	}
	for _, s := range sessions {
		if s.inTx {
			apply(t, s.conn, "ROLLBACK")
		}
	}
	require.Equal(t, m.rows, readRows(t, setup, modes[0]))
}

// Sessions run at once: of each row's increments exactly those of committed transactions are there.
func TestConcurrentIncrements(t *testing.T) {
	seed := newSeed(t)
	c := start(t)
	setup := connect(t, c)
	apply(t, setup, "CREATE TABLE t (id int PRIMARY KEY, n int)", "INSERT INTO t SELECT i, 0 FROM generate_series(1, 6) i")
	var (
		mu        sync.Mutex
		want      = map[int]int{1: 0, 2: 0, 3: 0, 4: 0, 5: 0, 6: 0}
		conflicts int
		workers   sync.WaitGroup
	)
	for i := range stressSessions {
		conn, rng := connect(t, c), rand.New(rand.NewPCG(seed, uint64(i)))
		workers.Go(func() {
			for range 6 * stressFactor(t) {
				added, err := increment(t.Context(), conn, rng)
				var told *pgconn.PgError
				mu.Lock()
				switch {
				case err == nil:
					for id, n := range added {
						want[id] += n
					}
				case errors.As(err, &told) && told.Code == "40001" && conn.PgConn().TxStatus() == 'I':
					conflicts++
				default:
					t.Errorf("session %d: %v, status %c", i, err, conn.PgConn().TxStatus())
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	require.Equal(t, want, readRows(t, setup, modes[0]))
	t.Log("conflicts:", conflicts)
}

// increment adds to random rows in a transaction and returns what was committed.
func increment(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) (added map[int]int, err error) {
	added = map[int]int{}
	sql := []string{"BEGIN"}
	for range 1 + rng.IntN(4) {
		id := 1 + rng.IntN(6)
		switch rng.IntN(5) {
		case 0:
			sql = append(sql, "SELECT sum(n) FROM t")
		case 1:
			sql = append(sql, fmt.Sprintf("SELECT FROM t WHERE id = %d FOR UPDATE", id))
		default:
			added[id]++
			sql = append(sql, fmt.Sprintf("UPDATE t SET n = n + 1 WHERE id = %d RETURNING n", id))
		}
	}
	if rng.IntN(5) == 0 {
		clear(added)
		sql = append(sql, "ROLLBACK")
	} else {
		sql = append(sql, "COMMIT")
	}
	for _, statement := range sql {
		if rng.IntN(3) == 0 {
			time.Sleep(time.Duration(rng.IntN(10)) * time.Millisecond)
		}
		if _, err = conn.Exec(ctx, statement, modes[rng.IntN(len(modes))]); err != nil {
			return nil, err
		}
	}
	return added, nil
}

func anys(args []int) (values []any) {
	for _, a := range args {
		values = append(values, a)
	}
	return values
}
