package proxy

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// CommitCut says when a connection is cut at COMMIT.
type CommitCut int

const (
	// BeforeApplied cuts when COMMIT has arrived; it is not executed.
	BeforeApplied CommitCut = iota + 1
	// AfterApplied cuts when COMMIT has been executed; its reply is not sent.
	AfterApplied
)

// queuedFault is what happens to one COMMIT: a conflict or a cut.
type queuedFault struct {
	conflict *pgproto3.ErrorResponse
	cut      CommitCut
}

// Faults are the faults to inject at one endpoint. The zero value injects none. It is safe for
// concurrent use.
type Faults struct {
	mu   sync.Mutex
	set  faults
	ends chan struct{} // closed when what blocks connections changes; nil if none waits
}

// faults are the faults in force.
type faults struct {
	commits     []queuedFault // of the next COMMITs
	refuse      string        // SQLSTATE for new connections
	wakingUntil time.Time
	clockOffset time.Duration // of the clock of tokens, transactions and sessions
	latency     time.Duration
	paused      bool // nothing is answered after TLS
	silent      bool // nothing is answered
	down        bool // new connections are reset
}

// change edits the faults in force and wakes those that they block.
func (f *Faults) change(edit func(*faults)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	edit(&f.set)
	if f.ends != nil {
		close(f.ends)
		f.ends = nil
	}
}

// get returns a copy of the faults in force.
func (f *Faults) get() faults {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.set
}

// Restore ends all faults and forgets those queued for COMMITs.
func (f *Faults) Restore() { f.change(func(set *faults) { *set = faults{} }) }

// ConflictNext makes the next n COMMITs fail with a data conflict.
func (f *Faults) ConflictNext(n int) { f.addConflicts(n, dataConflict) }

// SchemaConflictNext makes the next n COMMITs fail with a schema conflict.
func (f *Faults) SchemaConflictNext(n int) { f.addConflicts(n, schemaConflict) }

func (f *Faults) addConflicts(n int, message string) {
	for range n {
		f.addCommit(queuedFault{conflict: conflictResponse(message)})
	}
}

// CutAtCommit cuts the connection of the next COMMIT that no earlier call applies to.
func (f *Faults) CutAtCommit(when CommitCut) { f.addCommit(queuedFault{cut: when}) }

func (f *Faults) addCommit(q queuedFault) {
	f.change(func(set *faults) { set.commits = append(set.commits, q) })
}

// nextCommit takes the fault for a COMMIT.
func (f *Faults) nextCommit() (CommitCut, *pgproto3.ErrorResponse) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.set.commits) == 0 {
		return 0, nil
	}
	next := f.set.commits[0]
	f.set.commits = f.set.commits[1:]
	return next.cut, next.conflict
}

// RefuseConnections refuses new connections with an SQLSTATE, or accepts them again if code is
// empty. It panics on an SQLSTATE that DSQL does not use for this.
func (f *Faults) RefuseConnections(code string) {
	if _, ok := connectRefusals[code]; !ok && code != "" {
		panic(fmt.Sprintf("dsqltest: RefuseConnections(%q): the SQLSTATE must be 08006, 28000, 53300, 53400 or empty", code))
	}
	f.change(func(set *faults) { set.refuse = code })
}

// SetWaking refuses new connections with "waking up cluster" for d.
func (f *Faults) SetWaking(d time.Duration) {
	f.change(func(set *faults) { set.wakingUntil = time.Now().Add(d) })
}

// checkConnect returns the refusal of a new connection, or nil.
func (f *Faults) checkConnect() *Refusal {
	set := f.get()
	if time.Now().Before(set.wakingUntil) {
		return &Refusal{
			Reason:  "fault: SetWaking",
			Code:    connectionFailure,
			Message: "unable to accept connection, waking up cluster, please retry later",
		}
	}
	if set.refuse != "" {
		return &Refusal{Reason: "fault: RefuseConnections", Code: set.refuse, Message: connectRefusals[set.refuse]}
	}
	return nil
}

// SetClockOffset moves the clock by which tokens, transactions and sessions expire, forward if d is
// positive. [Proxy.SetClockOffset] also ends the sessions that have expired by it.
func (f *Faults) SetClockOffset(d time.Duration) {
	f.change(func(set *faults) { set.clockOffset = d })
}

func (f *Faults) now() time.Time { return time.Now().Add(f.get().clockOffset) }

// SetLatency adds d to every round trip.
func (f *Faults) SetLatency(d time.Duration) { f.change(func(set *faults) { set.latency = d }) }

// waitLatency delays one round trip.
func (f *Faults) waitLatency(ctx context.Context) {
	d := f.get().latency
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

// Pause stops all replies until Resume. New connections get as far as TLS.
func (f *Faults) Pause() { f.change(func(set *faults) { set.paused = true }) }

// Resume ends a pause.
func (f *Faults) Resume() { f.change(func(set *faults) { set.paused = false }) }

// BlackHole stops all replies until Restore, those of TLS too.
func (f *Faults) BlackHole() { f.change(func(set *faults) { set.silent = true }) }

func (f *Faults) setDown() { f.change(func(set *faults) { set.down = true }) }

// waitPause blocks while nothing is answered. It returns false when ctx is done.
func (f *Faults) waitPause(ctx context.Context) bool {
	return f.wait(ctx, func(set faults) bool { return set.paused || set.silent })
}

// waitResume is waitPause without the black hole, which keeps replies on their way to the client.
func (f *Faults) waitResume(ctx context.Context) bool {
	return f.wait(ctx, func(set faults) bool { return set.paused })
}

// admit blocks while TLS is not answered. It returns false if the connection is to be reset.
func (f *Faults) admit(ctx context.Context) bool {
	return f.wait(ctx, func(set faults) bool { return set.silent && !set.down }) && !f.get().down
}

// wait waits while blocked is true of the faults in force. It returns false when ctx is done.
func (f *Faults) wait(ctx context.Context, blocked func(faults) bool) bool {
	for {
		f.mu.Lock()
		if !blocked(f.set) {
			f.mu.Unlock()
			return true
		}
		if f.ends == nil {
			f.ends = make(chan struct{})
		}
		ends := f.ends
		f.mu.Unlock()
		select {
		case <-ends:
		case <-ctx.Done():
			return false
		}
	}
}
