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

// Faults are the faults to inject. The zero value injects none. It is safe for concurrent use.
type Faults struct {
	mu          sync.Mutex
	conflicts   []*pgproto3.ErrorResponse // of the next COMMITs
	cut         CommitCut                 // of the next COMMIT
	refuse      string                    // SQLSTATE for new connections
	wakingUntil time.Time
	clockOffset time.Duration // of the clock that tokens are verified against
	latency     time.Duration
	pauseEnds   chan struct{} // closed by Resume; nil when not paused
}

// ConflictNext makes the next n COMMITs fail with a data conflict.
func (f *Faults) ConflictNext(n int) { f.addConflicts(n, dataConflict) }

// SchemaConflictNext makes the next n COMMITs fail with a schema conflict.
func (f *Faults) SchemaConflictNext(n int) { f.addConflicts(n, schemaConflict) }

func (f *Faults) addConflicts(n int, message string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range n {
		f.conflicts = append(f.conflicts, conflictResponse(message))
	}
}

// CutAtCommit cuts the connection of the next COMMIT.
func (f *Faults) CutAtCommit(when CommitCut) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = when
}

// nextCommit takes the fault for a COMMIT. Conflicts are used up before a cut.
func (f *Faults) nextCommit() (CommitCut, *pgproto3.ErrorResponse) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.conflicts) > 0 {
		conflict := f.conflicts[0]
		f.conflicts = f.conflicts[1:]
		return 0, conflict
	}
	cut := f.cut
	f.cut = 0
	return cut, nil
}

// RefuseConnections refuses new connections with an SQLSTATE, or accepts them again if code is
// empty. It panics on an SQLSTATE that DSQL does not use for this.
func (f *Faults) RefuseConnections(code string) {
	if _, ok := connectRefusals[code]; !ok && code != "" {
		panic(fmt.Sprintf("dsqltest: RefuseConnections(%q): the SQLSTATE must be 08006, 28000, 53300, 53400 or empty", code))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse = code
}

// SetWaking refuses new connections with "waking up cluster" for d.
func (f *Faults) SetWaking(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wakingUntil = time.Now().Add(d)
}

// checkConnect returns the refusal of a new connection, or nil.
func (f *Faults) checkConnect() *Refusal {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Now().Before(f.wakingUntil) {
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

// SetClockOffset moves the clock that tokens are verified against; forward if d is positive.
func (f *Faults) SetClockOffset(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clockOffset = d
}

func (f *Faults) now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Add(f.clockOffset)
}

// SetLatency adds d to every round trip of a session.
func (f *Faults) SetLatency(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.latency = d
}

// waitLatency delays one round trip.
func (f *Faults) waitLatency(ctx context.Context) {
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

// Pause stops all replies until Resume. New connections get as far as TLS.
func (f *Faults) Pause() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pauseEnds == nil {
		f.pauseEnds = make(chan struct{})
	}
}

// Resume ends a pause.
func (f *Faults) Resume() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pauseEnds != nil {
		close(f.pauseEnds)
		f.pauseEnds = nil
	}
}

// waitPause blocks during a pause. It returns false when ctx is done.
func (f *Faults) waitPause(ctx context.Context) bool {
	f.mu.Lock()
	ends := f.pauseEnds
	f.mu.Unlock()
	if ends == nil {
		return true
	}
	select {
	case <-ends:
		return f.waitPause(ctx)
	case <-ctx.Done():
		return false
	}
}
