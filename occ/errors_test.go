package occ_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/occ"
)

const (
	deniedMessage = "unable to accept connection, access denied"
	dataMessage   = "change conflicts with another transaction (OC000)"
	schemaMessage = "schema has been updated by another transaction, please retry: (OC001)"
)

func pgError(code, message string) *pgconn.PgError {
	return &pgconn.PgError{Severity: "ERROR", Code: code, Message: message}
}

// otherDriver is an error of a driver that is not pgx.
type otherDriver struct{ state, text string }

func (e otherDriver) Error() string    { return e.text }
func (e otherDriver) SQLState() string { return e.state }

// multiError is an error of several causes.
type multiError []error

func (e multiError) Error() string   { return "several" }
func (e multiError) Unwrap() []error { return e }

// hidden shows its cause to errors.As only.
type hidden struct{ cause error }

func (e hidden) Error() string      { return "hidden" }
func (e hidden) As(target any) bool { return errors.As(e.cause, target) }

func TestConflicts(t *testing.T) {
	t.Parallel()
	data := pgError("40001", dataMessage)
	unique := pgError("23505", `duplicate key value violates unique constraint "t_pkey"`)
	unique.Detail = "Key (k)=(40001 OC000 (OC000)) already exists."
	for _, test := range []struct {
		name     string
		err      error
		conflict bool
		kind     occ.Conflict
	}{
		{"nil", nil, false, ""},
		{"no SQLSTATE", errors.New(dataMessage), false, ""},
		{"OC000", data, true, occ.DataConflict},
		{"OC001", pgError("40001", schemaMessage), true, occ.SchemaConflict},
		{"without a code", pgError("40001", "mutation conflicts with another transaction, retry as needed"), true, ""},
		{"OC000 as SQLSTATE", pgError("OC000", "conflict"), true, occ.DataConflict},
		{"OC001 as SQLSTATE", pgError("OC001", "conflict"), true, occ.SchemaConflict},
		{"another driver", otherDriver{"40001", "pq: " + schemaMessage}, true, occ.SchemaConflict},
		{"wrapped", fmt.Errorf("save: %w", data), true, occ.DataConflict},
		{"wrapped twice", fmt.Errorf("a: %w", fmt.Errorf("b: %w", data)), true, occ.DataConflict},
		{"joined behind another SQLSTATE", errors.Join(unique, data), true, occ.DataConflict},
		{"one of several", multiError{errors.New("first"), fmt.Errorf("second: %w", data)}, true, occ.DataConflict},
		{"seen by errors.As only", hidden{data}, true, occ.DataConflict},
		{"flattened", fmt.Errorf("save: %v", data), false, ""},
		{"unique violation on such a row", unique, false, ""},
		{"unique violation with such a message", pgError("23505", "OC000 (OC000) 40001"), false, ""},
		{"deadlock", pgError("40P01", "deadlock detected"), false, ""},
		{"completion unknown", pgError("40003", "statement completion unknown"), false, ""},
		{"unsupported", pgError("0A000", "unsupported statement: Truncate"), false, ""},
		{"row limit", pgError("54000", "transaction row limit exceeded"), false, ""},
		{"server unavailable", pgError("XX000", "server unavailable"), false, ""},
		{"given up", &occ.RetryError{Err: data}, true, occ.DataConflict},
	} {
		t.Run(test.name, func(t *testing.T) {
			require.Equal(t, test.conflict, occ.IsConflict(test.err))
			require.Equal(t, test.kind, occ.ConflictKind(test.err))
		})
	}
}

func TestCommitUnknownErrorSaysWhatToDo(t *testing.T) {
	t.Parallel()
	err := error(&occ.CommitUnknownError{Err: context.Canceled})
	require.ErrorIs(t, err, context.Canceled)
	require.EqualError(t, err, "occ: COMMIT was sent and its outcome is unknown; look up whether the transaction is there before running it again: context canceled")
}

func TestRetryErrorPrintsAttemptsTimeAndConflict(t *testing.T) {
	t.Parallel()
	err := &occ.RetryError{Attempts: 7, Elapsed: 1500*time.Millisecond + 42, Err: pgError("40001", dataMessage)}
	require.EqualError(t, err, "occ: gave up after 7 attempts in 1.5s: ERROR: change conflicts with another transaction (OC000) (SQLSTATE 40001)")
	err.Attempts = 1
	require.ErrorContains(t, err, "after 1 attempt in")
}
