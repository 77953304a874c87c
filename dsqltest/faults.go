package dsqltest

import (
	"time"

	"github.com/go-dsql/dsql/internal/proxy"
)

// CommitCut says when [Cluster.CutAtCommit] cuts the connection.
type CommitCut int

const (
	// BeforeApplied cuts when COMMIT has arrived; it is not executed.
	BeforeApplied CommitCut = iota + 1
	// AfterApplied cuts when COMMIT has been executed; its reply is not sent.
	AfterApplied
)

// ConflictNext makes the next n COMMITs fail with DSQL's data conflict: 40001, (OC000).
// The transactions are rolled back. COMMITs of failed transactions do not count.
func (c *Cluster) ConflictNext(n int) { c.proxy.Faults.ConflictNext(n) }

// SchemaConflictNext makes the next n COMMITs fail with a schema conflict: 40001, (OC001).
func (c *Cluster) SchemaConflictNext(n int) { c.proxy.Faults.SchemaConflictNext(n) }

// CutAtCommit cuts the connection of the next COMMIT, before or after the COMMIT is executed. The
// client gets no reply in either case. Faults of COMMITs queue: each call of CutAtCommit,
// ConflictNext and SchemaConflictNext applies to the COMMITs after those of earlier calls.
// [Cluster.Restore] empties the queue.
func (c *Cluster) CutAtCommit(when CommitCut) { c.proxy.Faults.CutAtCommit(proxy.CommitCut(when)) }

// CutConnections closes all connections at once and sends nothing.
func (c *Cluster) CutConnections() { c.proxy.CutSessions() }

// ExpireSessions ends all sessions as DSQL does after 60 minutes: idle ones at once, the others
// after their transaction.
func (c *Cluster) ExpireSessions() { c.proxy.ExpireSessions() }

// RefuseConnections refuses every new connection with an SQLSTATE, one of 08006, 28000, 53300 and
// 53400, and DSQL's message, after its token has been verified. The empty string accepts
// connections again. RefuseConnections panics on any other SQLSTATE.
func (c *Cluster) RefuseConnections(code string) { c.proxy.Faults.RefuseConnections(code) }

// SetWaking refuses new connections with "waking up cluster" for d, as an inactive cluster does.
func (c *Cluster) SetWaking(d time.Duration) { c.proxy.Faults.SetWaking(d) }

// SetClockOffset moves the endpoint's clock, forward if d is positive. Tokens expire by it, open
// transactions are refused once they are 300 seconds old, and sessions end at 60 minutes.
func (c *Cluster) SetClockOffset(d time.Duration) { c.proxy.SetClockOffset(d) }

// SetLatency adds d to every round trip, those of connecting included.
func (c *Cluster) SetLatency(d time.Duration) { c.proxy.Faults.SetLatency(d) }

// Pause makes the cluster unresponsive until [Cluster.Resume]: connections stay open, nothing is
// answered, and new connections get no further than TLS.
func (c *Cluster) Pause() { c.proxy.Faults.Pause() }

// Resume ends a pause. What arrived during the pause is executed now.
func (c *Cluster) Resume() { c.proxy.Faults.Resume() }

// Cut takes the endpoint down until [Cluster.Restore]: it cuts all connections, and new ones are
// reset during TLS.
func (c *Cluster) Cut() { c.proxy.Cut() }

// BlackHole makes the endpoint unreachable until [Cluster.Restore], as if packets were lost:
// connections stay open and nothing is answered; new ones are accepted and get no answer to TLS.
func (c *Cluster) BlackHole() { c.proxy.Faults.BlackHole() }

// Restore ends all faults of the endpoint and empties the queue of those at COMMIT. It also ends
// the faults by target, such as [Cluster.ConflictOn], which belong to the data and so to both
// endpoints. Restore panics if PostgreSQL does not answer.
func (c *Cluster) Restore() {
	c.proxy.Restore()
	c.endTargetFaults()
}
