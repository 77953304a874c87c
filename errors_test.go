package dsql_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
)

const deniedMessage = "unable to accept connection, access denied"

func pgError(code, message string) *pgconn.PgError {
	return &pgconn.PgError{Severity: "ERROR", Code: code, Message: message}
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
