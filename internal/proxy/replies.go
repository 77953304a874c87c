package proxy

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/go-dsql/dsql/internal/dialect"
)

// refusedColumn selects a column that does not exist. Executing it puts a refusal in order among
// PostgreSQL's replies: PostgreSQL fails the transaction, as DSQL does for what it refuses, or
// reports that it has failed already.
const refusedColumn = `SELECT "dsqltest: refused"`

var refusedColumnError = []byte("dsqltest: refused")

// rewrite turns a reply of PostgreSQL into DSQL's. r.mu must be held.
func (r *relay) rewrite(x *exchange, m message) message {
	switch m.kind() {
	case 'S':
		return rewriteParameterStatus(m)
	case 'K': // BackendKeyData
		r.processID.Store(binary.BigEndian.Uint32(m.body()))
	case 'C', 'I', 's': // CommandComplete, EmptyQueryResponse, PortalSuspended
		return r.rewriteComplete(x, m)
	case 'E':
		x.failed = true
		return r.rewriteError(x, m)
	}
	return m
}

func rewriteParameterStatus(m message) message {
	var status pgproto3.ParameterStatus
	if status.Decode(m.body()) != nil || status.Name != "server_version" {
		return m
	}
	status.Value = dialect.ServerVersion
	return encode(&status)
}

// rewriteComplete replaces the command tag by DSQL's. DDL outside a transaction block is in force
// from here on. r.mu must be held.
func (r *relay) rewriteComplete(x *exchange, m message) message {
	if len(x.running) == 0 {
		return m
	}
	st := x.running[0]
	x.running = x.running[1:]
	if st.Kind == dialect.DDL && r.status == 'I' {
		r.bumpCatalog()
	}
	if st.EstimatesCost && m.kind() == 'C' {
		return append(costEstimate(), m...)
	}
	if st.Tag == "" || m.kind() != 'C' {
		return m
	}
	return encode(&pgproto3.CommandComplete{CommandTag: []byte(st.Tag)})
}

// costEstimate returns the rows that DSQL ends the answer to EXPLAIN ANALYZE VERBOSE with. The
// proxy knows no costs.
func costEstimate() (rows message) {
	for _, line := range []string{"Statement DPU Estimate:", "  Compute: 0.00000 DPU", "  Read: 0.00000 DPU", "  Write: 0.00000 DPU", "  Total: 0.00000 DPU"} {
		rows = append(rows, encode(&pgproto3.DataRow{Values: [][]byte{[]byte(line)}})...)
	}
	return rows
}

func (r *relay) rewriteError(x *exchange, m message) message {
	database := r.proxy.cfg.Database
	var e pgproto3.ErrorResponse
	if e.Decode(m.body()) != nil {
		return m
	}
	if x.refusal != nil && e.Code == undefinedColumn && bytes.Contains(m, refusedColumnError) {
		return encode(x.refusal)
	}
	if message := r.conflictMessage(&e); message != "" {
		x.blocked = e.Code == lockNotAvailable
		return encode(conflictResponse(message))
	}
	if e.Code == tooManyConnections { // PostgreSQL's limit, not the quota of a cluster
		e.Code = outOfResources
		e.Message = "dsqltest: the PostgreSQL server behind the clusters of this process has no connection left: " + e.Message
		return encode(&e)
	}
	if strings.Contains(e.Message, database) {
		e.Message = strings.ReplaceAll(e.Message, database, databaseName)
		return encode(&e)
	}
	if strings.Contains(e.Where, "sys.") { // the cluster's own functions are internal
		e.Where, e.Position, e.InternalPosition, e.InternalQuery = "", 0, 0, ""
		return encode(&e)
	}
	return m
}
