package proxy

import (
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/go-dsql/dsql/internal/dialect"
)

// A pipeline up to its Sync is one transaction, also with DDL in it. But DDL in autocommit mode is
// executed on its own, for it may have to be tried again. So it is held back until the next
// message: a Sync ends the transaction with it, and anything else puts it in a transaction block
// that the Sync ends.

// executeHeld executes the DDL that is held back. last is true when a Sync follows.
func (f *frontend) executeHeld(last bool) {
	p := *f.held
	f.held = nil
	if f.skipping = !f.drain(); f.skipping {
		return
	}
	if !last {
		f.execInternal("BEGIN")
		f.inPipeline = true
	}
	f.skipping = !f.execPortal(nil, p)
}

// endPipeline ends the transaction block of a pipeline and tells the client.
func (f *frontend) endPipeline() {
	f.inPipeline = false
	f.drain()
	switch f.txStatus() {
	case 'T':
		f.execCommit(&dialect.Statement{Kind: dialect.Commit, SQL: "COMMIT"}, false)
	case 'E':
		f.execInternal("ROLLBACK")
	}
	f.writeReady()
}

// costEstimate returns the rows that DSQL ends the answer to EXPLAIN ANALYZE VERBOSE with. The
// proxy knows no costs.
func costEstimate() (rows message) {
	for _, line := range []string{"Statement DPU Estimate:", "  Compute: 0.00000 DPU", "  Read: 0.00000 DPU", "  Write: 0.00000 DPU", "  Total: 0.00000 DPU"} {
		rows = append(rows, encode(&pgproto3.DataRow{Values: [][]byte{[]byte(line)}})...)
	}
	return rows
}
