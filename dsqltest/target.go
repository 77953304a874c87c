package dsqltest

import (
	"context"
	"fmt"
	"time"
)

// targetTimeout bounds the statement that sets or ends a fault.
const targetTimeout = 30 * time.Second

// ConflictOn makes the next n COMMITs that changed a row of a table fail with a data conflict,
// those of statements outside a transaction block included. The table is named as in SQL, such as
// app.account. With a key, only rows count whose primary key begins with these values, which are
// compared as text. It fails if there is no such table or key, or if a transaction that has
// written to the table is open.
func (c *Cluster) ConflictOn(n int, table string, key ...any) error {
	values := make([]string, len(key))
	for i, v := range key {
		values[i] = fmt.Sprint(v)
	}
	return c.setTargetFault("ConflictOn", "CALL sys.conflict_on($1, $2, $3)", table, n, values)
}

// HoldIndexJobs makes the jobs of CREATE INDEX ASYNC stay processing, with their indexes invalid,
// until [Cluster.Restore] completes them.
func (c *Cluster) HoldIndexJobs() error {
	return c.setTargetFault("HoldIndexJobs", "CALL sys.set_job_fault(true, NULL)")
}

// FailIndexJobs makes the jobs of CREATE INDEX ASYNC fail with these details, and leave invalid
// indexes behind, until [Cluster.Restore]. DSQL's details for a key that is not unique are "Found
// duplicate key while validating index for UCVs".
func (c *Cluster) FailIndexJobs(details string) error {
	return c.setTargetFault("FailIndexJobs", "CALL sys.set_job_fault(false, $1)", details)
}

func (c *Cluster) setTargetFault(method, sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), targetTimeout)
	defer cancel()
	c.shared.replacing.Lock()
	c.shared.changed.Store(true)
	c.shared.targeted.Store(true)
	database := c.database()
	c.shared.replacing.Unlock()
	if err := c.server.Exec(ctx, database, sql, args...); err != nil {
		return fmt.Errorf("dsqltest: %s: %w", method, err)
	}
	return nil
}

// endTargetFaults ends the faults by target of both endpoints.
func (c *Cluster) endTargetFaults() {
	if !c.shared.targeted.Swap(false) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), targetTimeout)
	defer cancel()
	if err := c.server.Exec(ctx, c.database(), "CALL sys.end_faults()"); err != nil {
		panic(fmt.Sprintf("dsqltest: Restore: %v", err))
	}
}
