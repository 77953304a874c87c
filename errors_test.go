package dsql_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
)

const (
	dataMessage   = "change conflicts with another transaction (OC000)"
	schemaMessage = "schema has been updated by another transaction, please retry: (OC001)"
	deniedMessage = "unable to accept connection, access denied"
)

func pgError(code, message string) *pgconn.PgError {
	return &pgconn.PgError{Severity: "ERROR", Code: code, Message: message}
}

// otherDriver is an error of a driver that is not pgx.
type otherDriver struct{ state, text string }

func (e otherDriver) Error() string    { return e.text }
func (e otherDriver) SQLState() string { return e.state }

// several is an error of several causes.
type several []error

func (e several) Error() string   { return "several" }
func (e several) Unwrap() []error { return e }

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
		kind     dsql.Conflict
	}{
		{"nil", nil, false, ""},
		{"no SQLSTATE", errors.New(dataMessage), false, ""},
		{"OC000", data, true, dsql.DataConflict},
		{"OC001", pgError("40001", schemaMessage), true, dsql.SchemaConflict},
		{"without a code", pgError("40001", "mutation conflicts with another transaction, retry as needed"), true, ""},
		{"OC000 as SQLSTATE", pgError("OC000", "conflict"), true, dsql.DataConflict},
		{"OC001 as SQLSTATE", pgError("OC001", "conflict"), true, dsql.SchemaConflict},
		{"another driver", otherDriver{"40001", "pq: " + schemaMessage}, true, dsql.SchemaConflict},
		{"wrapped", fmt.Errorf("save: %w", data), true, dsql.DataConflict},
		{"wrapped twice", fmt.Errorf("a: %w", fmt.Errorf("b: %w", data)), true, dsql.DataConflict},
		{"joined behind another SQLSTATE", errors.Join(unique, data), true, dsql.DataConflict},
		{"one of several", several{errors.New("first"), fmt.Errorf("second: %w", data)}, true, dsql.DataConflict},
		{"seen by errors.As only", hidden{data}, true, dsql.DataConflict},
		{"flattened", fmt.Errorf("save: %v", data), false, ""},
		{"unique violation on such a row", unique, false, ""},
		{"unique violation with such a message", pgError("23505", "OC000 (OC000) 40001"), false, ""},
		{"deadlock", pgError("40P01", "deadlock detected"), false, ""},
		{"completion unknown", pgError("40003", "statement completion unknown"), false, ""},
		{"unsupported", pgError("0A000", "unsupported statement: Truncate"), false, ""},
		{"row limit", pgError("54000", "transaction row limit exceeded"), false, ""},
		{"server unavailable", pgError("XX000", "server unavailable"), false, ""},
		{"given up", &dsql.RetryError{Err: data}, true, dsql.DataConflict},
	} {
		t.Run(test.name, func(t *testing.T) {
			require.Equal(t, test.conflict, dsql.IsConflict(test.err))
			require.Equal(t, test.kind, dsql.ConflictKind(test.err))
		})
	}
}

func TestRefusalsAndLimits(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name          string
		err           error
		denied, limit bool
	}{
		{"nil", nil, false, false},
		{"denied by IAM", pgError("08006", deniedMessage), true, false},
		{"role not granted", fmt.Errorf("connect: %w", pgError("28000", deniedMessage)), true, false},
		{"another class 08", pgError("08006", "connection failure"), false, false},
		{"PostgreSQL's 28000", pgError("28000", `role "x" is not permitted to log in`), false, false},
		{"wrong code", pgError("42501", deniedMessage), false, false},
		{"only the words", errors.New(deniedMessage), false, false},
		{"too many connections", pgError("53300", "Unable to accept connection, too many open connections."), false, true},
		{"too many a second", errors.Join(errors.New("first"), pgError("53400", "Unable to accept connection, rate exceeded.")), false, true},
		{"out of memory", pgError("53200", "out of memory"), false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			require.Equal(t, test.denied, dsql.IsAccessDenied(test.err))
			require.Equal(t, test.limit, dsql.IsConnectLimit(test.err))
		})
	}
}

func TestCommitUnknownErrorSaysWhatToDo(t *testing.T) {
	t.Parallel()
	err := error(&dsql.CommitUnknownError{Err: context.Canceled})
	require.ErrorIs(t, err, context.Canceled)
	require.EqualError(t, err, "dsql: COMMIT was sent and its outcome is unknown; look up whether the transaction is there before running it again: context canceled")
}
