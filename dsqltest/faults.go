package dsqltest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// CommitCut says when [Cluster.CutAtCommit] cuts.
type CommitCut int

const (
	// BeforeApplied cuts when COMMIT has been read, and does not carry it out.
	BeforeApplied CommitCut = iota + 1
	// AfterApplied cuts when COMMIT has been carried out, before it is answered.
	AfterApplied
)

// faults are what a test has asked to go wrong.
type faults struct {
	mu        sync.Mutex
	conflicts []*pgproto3.ErrorResponse // of the next commits
	cut       CommitCut                 // of the next commit
	refuse    string                    // SQLSTATE of connections
	wakeUntil time.Time
	offset    time.Duration // of the clock that tokens are checked by
	latency   time.Duration
	paused    chan struct{} // closed by Resume; nil: not paused
}

// ConflictNext makes the next n COMMITs of transactions that have not failed meet a
// data conflict, as DSQL words it: 40001, (OC000). The transaction is rolled back.
func (c *Cluster) ConflictNext(n int) { c.faults.add(n, dataConflict) }

// SchemaConflictNext makes the next n COMMITs meet a schema conflict: 40001, (OC001).
func (c *Cluster) SchemaConflictNext(n int) { c.faults.add(n, schemaConflict) }

func (f *faults) add(n int, words string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range n {
		f.conflicts = append(f.conflicts, conflict(words))
	}
}

// CutAtCommit cuts the connection of the next COMMIT, before or after it is
// carried out. The client is not answered in either case.
func (c *Cluster) CutAtCommit(when CommitCut) {
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	c.faults.cut = when
}

// commit takes what the next COMMIT is to meet. A conflict goes before a cut.
func (f *faults) commit() (cut CommitCut, conflict *pgproto3.ErrorResponse) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.conflicts) > 0 {
		conflict = f.conflicts[0]
		f.conflicts = f.conflicts[1:]
		return 0, conflict
	}
	cut = f.cut
	f.cut = 0
	return cut, nil
}

// CutConnections cuts all connections at once, without a word.
func (c *Cluster) CutConnections() {
	for _, v := range c.conversations() {
		v.cut()
	}
}

// ExpireSessions ends all sessions as DSQL does after 60 minutes: those in a
// transaction after it, the others at once.
func (c *Cluster) ExpireSessions() {
	for _, v := range c.conversations() {
		v.expire()
	}
}

// refusals by SQLSTATE, with DSQL's words.
var connectRefusals = map[string]string{
	"08006": accessDenied,
	"28000": accessDenied,
	"53300": "Unable to accept connection, too many open connections.",
	"53400": "Unable to accept connection, rate exceeded.",
}

// RefuseConnections refuses every new connection with an SQLSTATE, one of 08006,
// 28000, 53300 and 53400, and DSQL's words for it, after the token was checked.
// The empty string ends that. It panics on any other.
func (c *Cluster) RefuseConnections(code string) {
	if _, ok := connectRefusals[code]; !ok && code != "" {
		panic(fmt.Sprintf("dsqltest: RefuseConnections(%q): give 08006, 28000, 53300, 53400, or \"\"", code))
	}
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	c.faults.refuse = code
}

// SetWaking makes the cluster answer new connections with "waking up cluster" for d, as
// one that was inactive does.
func (c *Cluster) SetWaking(d time.Duration) {
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	c.faults.wakeUntil = time.Now().Add(d)
}

// connect is why a connection is refused, if so.
func (f *faults) connect() *Refusal {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Now().Before(f.wakeUntil) {
		return &Refusal{
			Reason:  "fault: SetWaking",
			Code:    connectionFailure,
			Message: "unable to accept connection, waking up cluster, please retry later",
		}
	}
	if f.refuse != "" {
		return &Refusal{Reason: "fault: RefuseConnections", Code: f.refuse, Message: connectRefusals[f.refuse]}
	}
	return nil
}

// SetClockOffset moves the clock that tokens are checked by: later for d over zero.
func (c *Cluster) SetClockOffset(d time.Duration) {
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	c.faults.offset = d
}

func (f *faults) now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Add(f.offset)
}

// SetLatency adds d to every round trip of a session.
func (c *Cluster) SetLatency(d time.Duration) {
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	c.faults.latency = d
}

func (f *faults) roundTrip(ctx context.Context) {
	f.mu.Lock()
	d := f.latency
	f.mu.Unlock()
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Pause makes the cluster a black hole until [Cluster.Resume]: connections stay
// open, nothing is answered, new ones come no further than TLS.
func (c *Cluster) Pause() {
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	if c.faults.paused == nil {
		c.faults.paused = make(chan struct{})
	}
}

// Resume ends a pause. What came in meanwhile is done now.
func (c *Cluster) Resume() {
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	if c.faults.paused != nil {
		close(c.faults.paused)
		c.faults.paused = nil
	}
}

// pass waits out a pause. It is false when the cluster closes.
func (f *faults) pass(ctx context.Context) bool {
	f.mu.Lock()
	paused := f.paused
	f.mu.Unlock()
	if paused == nil {
		return true
	}
	select {
	case <-paused:
		return f.pass(ctx)
	case <-ctx.Done():
		return false
	}
}
