package occ_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/fakepg"
	"github.com/go-dsql/dsql/occ"
)

// The soak runs transactions against a server that fails at every point of the protocol, in several
// processes, some of which are killed. Each call has a row of its own, so that the server's ledger
// says how often it was applied, and its error must agree.
//
// OCC_SOAK sets how long it runs (make soak: some minutes), OCC_SOAK_SEED repeats its server's faults.

// verdict is what an error says of the transaction.
type verdict string

const (
	wasApplied verdict = "applied"
	notApplied verdict = "not applied"
	isUnknown  verdict = "unknown"
)

func judge(err error) verdict {
	var open *occ.CommitUnknownError
	switch {
	case err == nil:
		return wasApplied
	case errors.As(err, &open):
		return isUnknown
	case strings.Contains(err.Error(), "the server has committed it"), strings.Contains(err.Error(), "the batch has committed"):
		return wasApplied
	case strings.Contains(err.Error(), "ended the transaction itself"):
		return isUnknown // what the callback committed stays
	}
	return notApplied
}

func TestSoak(t *testing.T) {
	if address := os.Getenv("OCC_SOAK_ADDRESS"); address != "" {
		soakProcess(t, address)
		return
	}
	length := 2 * time.Second
	if text := os.Getenv("OCC_SOAK"); text != "" {
		var err error
		length, err = time.ParseDuration(text)
		require.NoError(t, err)
	}
	seed := rand.Uint64()
	if text := os.Getenv("OCC_SOAK_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	s := startFaulty(t, seed)

	var mu sync.Mutex
	counts := map[string]int{}
	wrong := 0
	check := func(op int64, way string, said verdict) {
		n := s.rows.Value(op)
		mu.Lock()
		defer mu.Unlock()
		counts["calls"]++
		counts[string(said)]++
		switch {
		case n > 1:
			counts["APPLIED TWICE"]++
		case n == 0 && said == wasApplied:
			counts["LOST"]++
		case n == 1 && said == notApplied:
			counts["APPLIED UNDER AN ERROR THAT SAYS OTHERWISE"]++
		default:
			return
		}
		if wrong++; wrong <= 20 {
			t.Errorf("%s, call %d: applied %d times, its error says %s", way, op, n, said)
		}
	}
	var wg sync.WaitGroup
	end := time.Now().Add(length)
	const processes = 3
	for p := range processes {
		wg.Go(func() {
			for round := 0; time.Now().Before(end); round++ {
				life := min(time.Until(end), time.Second+rand.N(length/2))
				started, finished := s.process(t, p, round, life, check)
				mu.Lock()
				counts["killed calls"] += started - finished
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	// What a killed process has begun may be applied, once.
	for op, n := range s.rows.Values() {
		if n > 1 {
			t.Errorf("call %d was applied %d times", op, n)
		}
	}
	t.Logf("seed %d, %v: %d faults, %v", seed, length, s.faults.Load(), counts)
	require.Positive(t, counts[string(wasApplied)])
}

// faulty is a server that fails at random.
type faulty struct {
	*fakepg.Server
	rows   *fakepg.Rows
	faults atomic.Int64
}

func startFaulty(t *testing.T, seed uint64) *faulty {
	s := &faulty{rows: &fakepg.Rows{}}
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(seed, 0))
	chance := func(n int) int { // 0 to n-1
		mu.Lock()
		defer mu.Unlock()
		return r.IntN(n)
	}
	fault := func(reply fakepg.Reply) fakepg.Reply { s.faults.Add(1); return reply }
	answer := func(st fakepg.Statement) fakepg.Reply {
		switch chance(25) {
		case 0: // before it is applied
			return fault(fakepg.Reply{Cut: true})
		case 1:
			if st.Step == fakepg.Sync || strings.HasPrefix(st.SQL, commit) {
				s.rows.Answer(fakepg.Statement{Session: st.Session, Step: fakepg.Execute, SQL: "rollback"})
			}
			return fault(fakepg.Reply{Err: soakError(chance), CutAfter: chance(3) == 0})
		case 2: // after it is applied
			got := s.rows.Answer(st)
			if got.Err == nil && st.Step == fakepg.Execute && chance(2) == 0 {
				return fault(fakepg.Reply{Rows: got.Rows, CutAfter: true})
			}
			return fault(fakepg.Reply{Cut: true})
		case 3:
			if st.Step != fakepg.Execute || !strings.HasPrefix(st.SQL, "commit") {
				break
			}
			s.rows.Answer(st) // COMMIT with an answer that leaves it open
			open := []*pgconn.PgError{pgError("XX000", "server unavailable"), pgError("40003", "unknown"), pgError("57P01", "terminating")}
			return fault(fakepg.Reply{Err: open[chance(3)], CutAfter: chance(2) == 0})
		}
		got := s.rows.Answer(st)
		if got.Err != nil && chance(4) == 0 {
			s.faults.Add(1)
			got.CutAfter = true
		}
		return got
	}
	session := &fakepg.SQL{Answer: answer}
	s.Server = fakepg.Start(t, fakepg.Hooks{
		Session: session.Session,
		Password: func(*fakepg.Conn) error {
			if chance(50) == 0 {
				s.faults.Add(1)
				return pgError("XX000", "unable to accept connection, waking up cluster, please retry later")
			}
			return nil
		},
	})
	return s
}

// soakError is an error before anything is applied.
func soakError(chance func(int) int) *pgconn.PgError {
	all := []*pgconn.PgError{
		pgError("40001", dataMessage), pgError("40001", schemaMessage), pgError("23505", "duplicate key"),
		pgError("0A000", "cached plan must not change result type"), pgError("26000", "prepared statement does not exist"),
		pgError("54000", "transaction row limit exceeded"), pgError("25P02", "aborted"),
		{Severity: "FATAL", Code: "57P01", Message: "terminating connection"},
	}
	return all[chance(len(all))]
}

// process runs a process for a time, and checks each call that it reports. Half of the processes are
// killed.
func (s *faulty) process(t *testing.T, p, round int, life time.Duration, check func(int64, string, verdict)) (started, finished int) {
	kill := rand.N(2) == 0
	cmd := exec.Command(os.Args[0], "-test.run", "^TestSoak$", "-test.count", "1")
	cmd.Env = append(os.Environ(), "OCC_SOAK_ADDRESS="+s.Addr,
		fmt.Sprintf("OCC_SOAK_FIRST=%d", (int64(p)*1_000_000+int64(round)+1)*10_000_000),
		fmt.Sprintf("OCC_SOAK_LIFE=%v", life))
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	if kill {
		timer := time.AfterFunc(life*3/4, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), "\t")
		switch {
		case len(fields) == 2 && fields[0] == "soak":
			started++
		case len(fields) == 4 && fields[0] == "soaked":
			finished++
			op, err := strconv.ParseInt(fields[1], 10, 64)
			require.NoError(t, err)
			check(op, fields[2], verdict(fields[3]))
		}
	}
	if err := cmd.Wait(); err != nil && !kill {
		t.Errorf("the process failed: %v\n%.2000s", err, stderr.String())
	}
	return started, finished
}

// soakProcess makes calls until its life ends.
func soakProcess(t *testing.T, address string) {
	first, err := strconv.ParseInt(os.Getenv("OCC_SOAK_FIRST"), 10, 64)
	require.NoError(t, err)
	life, err := time.ParseDuration(os.Getenv("OCC_SOAK_LIFE"))
	require.NoError(t, err)
	config, err := pgxpool.ParseConfig(fmt.Sprintf("postgres://u:p@%s/db?sslmode=disable&connect_timeout=5&pool_max_conns=24", address))
	require.NoError(t, err)
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer pool.Close()
	db := stdlib.OpenDB(*config.ConnConfig)
	defer db.Close()
	db.SetMaxOpenConns(12)

	_, refused := pgconn.Connect(t.Context(), "postgres://127.0.0.1:1/?sslmode=disable")
	require.Error(t, refused)
	var next atomic.Int64
	next.Store(first)
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format, args...)
	}
	end := time.Now().Add(life)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for time.Now().Before(end) {
				way := soakWays[rand.IntN(len(soakWays))]
				op := next.Add(1)
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				if rand.IntN(10) == 0 {
					time.AfterFunc(rand.N(3*time.Millisecond), cancel)
				}
				say("soak\t%d\n", op)
				err := way.run(ctx, soakClient{pool, db, op, refused})
				say("soaked\t%d\t%s\t%s\n", op, way.name, judge(err))
				cancel()
			}
		})
	}
	wg.Wait()
}
