package proxy

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
)

// A write that waits for an idle transaction has its rows also while many others write a hot row.
func TestIdleHolderIsFoundAmongManyWriters(t *testing.T) {
	c := start(t)
	apply(t, connect(t, c), "CREATE TABLE t (id int PRIMARY KEY, n int)", "INSERT INTO t VALUES (1, 0), (2, 0)")
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for range 20 {
		conn := connect(t, c)
		writers.Go(func() {
			for ctx.Err() == nil {
				if _, err := conn.Exec(t.Context(), "UPDATE t SET n = n + 1 WHERE id = 1"); err != nil {
					assert.ErrorContains(t, err, lostWords)
				}
			}
		})
	}
	holder, conn := connect(t, c), connect(t, c)
	for range 8 {
		apply(t, holder, "BEGIN", "UPDATE t SET n = 5 WHERE id = 2")
		apply(t, conn, "UPDATE t SET n = n + 1 WHERE id = 2")
		apply(t, holder, "ROLLBACK")
	}
	stop()
	writers.Wait()
}
