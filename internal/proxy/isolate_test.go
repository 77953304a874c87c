package proxy

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql"
)

// lose begins a transaction on conn whose COMMIT will fail, for another session has changed the row
// of lost since its snapshot.
func lose(t *testing.T, conn, winner *pgx.Conn) {
	t.Helper()
	apply(t, conn, "BEGIN", "SELECT FROM lost")
	apply(t, winner, "UPDATE lost SET n = n + 1")
	apply(t, conn, "UPDATE lost SET n = n + 1")
}

// Of tables of one name, a statement without the schema has the one on the search path.
func TestCopyOfTheTableOnTheSearchPath(t *testing.T) {
	c := start(t)
	winner := connect(t, c)
	apply(t, winner, "CREATE TABLE lost (n int)", "CREATE SCHEMA other", "CREATE TABLE other.k (n int)", "CREATE TABLE k (n int)", "CREATE TABLE other.l (n int)",
		"INSERT INTO lost VALUES (1)", "INSERT INTO other.k VALUES (10)", "INSERT INTO k VALUES (20)", "INSERT INTO other.l VALUES (30)")
	conn := connect(t, c)
	lose(t, conn, winner)
	requireInt(t, conn, modes[0], 21, "UPDATE k SET n = n + 1 RETURNING n")
	requireInt(t, conn, modes[0], 31, "UPDATE other.l SET n = n + 1 RETURNING n")
	_, err := conn.Exec(t.Context(), "COMMIT")
	requireError(t, err, "40001", lostWords)
}

// Statements that a connection has prepared before see the copies too.
func TestPreparedStatementsSeeCopies(t *testing.T) {
	c := start(t)
	winner := connect(t, c)
	apply(t, winner, "CREATE TABLE lost (n int)", "INSERT INTO lost VALUES (1)")
	conn := connect(t, c)
	const read = "SELECT n FROM lost"
	for round := range 3 {
		requireInt(t, conn, modes[0], round+1, read)
		lose(t, conn, winner)
		apply(t, conn, "UPDATE lost SET n = 50")
		requireInt(t, conn, modes[0], 50, read)
		apply(t, conn, "ROLLBACK")
		requireInt(t, conn, modes[0], round+2, read)
	}
}

// A role has the privileges on a copy that it has on the table.
func TestPrivilegesOfCopies(t *testing.T) {
	c := start(t, withRole("app"))
	winner := connect(t, c)
	apply(t, winner, "CREATE TABLE lost (n int)", "GRANT SELECT, UPDATE ON lost TO app", "INSERT INTO lost VALUES (1)")
	conn := connect(t, c, dsql.WithUser("app"))
	lose(t, conn, winner)
	requireInt(t, conn, modes[0], 2, "SELECT n FROM lost")
	_, err := conn.Exec(t.Context(), "DELETE FROM lost")
	requireError(t, err, "42501", "permission denied for table lost")
	require.Equal(t, byte('E'), conn.PgConn().TxStatus())
	apply(t, conn, "ROLLBACK")
}
