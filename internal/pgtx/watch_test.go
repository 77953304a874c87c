package pgtx

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestMayEnd(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]bool{
		"commit": true, " COMMIT;": true, "End": true, "abort": true, "rollback": true, "commit and chain": true,
		"-- x\ncommit": true, "/* a */ -- b\n /* c */ commit": true, "update t set n = 1; commit; begin": true, ";;commit": true,
		"/* a /* b */ */ commit": true, "-- x\rcommit": true, "select ';--'; commit": true, "select 1 -- ; /*\n; commit": true,
		"/* a /* b */ commit */": false, "/* a */ */ commit": false,
		"": false, "select 'commit'": false, "update commits set n = 1": false, "committed": false, "endpoints": false,
		"select case when a then b end": false, "-- commit": false, "/* commit": false, "begin": false,
	} {
		require.Equal(t, want, MayEnd(sql), sql)
	}
	require.False(t, MayCommit("rollback"))
	require.True(t, ControlsTx("start transaction"))
	b := &pgx.Batch{}
	b.Queue("select 1")
	require.False(t, BatchMayEnd(b))
	b.Queue("commit")
	require.True(t, BatchMayEnd(b))
}

func TestIsOne(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]bool{
		"select 1": true, "-- x\nselect 1; \n": true, "select 1;;": true,
		"": false, " ": false, ";": false, "-- x": false, "/* x */": false, "select 1; select 2": false, "select ';'": false,
	} {
		require.Equal(t, want, IsOne(sql), sql)
	}
}

func TestNilWatchSeesNothing(t *testing.T) {
	t.Parallel()
	var w *Watch
	w.Stop()
	w.Reset()
	require.False(t, w.Ended() || w.Committed() || w.CommitSent() || w.Sent() || w.Succeeded() || w.Failed())
	require.Equal(t, Unknown, w.Outcome(pgx.ErrTxClosed))
}
