// Package dsqltest runs a local cluster that behaves like Amazon Aurora DSQL where
// a client can tell, for tests that need no AWS account.
//
//	func TestCities(t *testing.T) {
//		c := dsqltest.Start(t)
//		pool, err := dsql.NewPool(t.Context(), c.Endpoint(), c.Region(), c.Options()...)
//		…
//	}
//
// Behind it is real PostgreSQL, 14 to 18, found in $DSQLTEST_POSTGRES (a directory,
// or the path of postgres), on PATH, or where packages put it. Where there is none,
// the error says what to install. It runs on Linux and macOS; a process of root
// runs it as the user postgres, else nobody. All clusters of a process share one
// PostgreSQL, which ends with the process, and each is a database of its own, so
// tests run in parallel.
//
// # What is like DSQL
//
//   - TLS only, 1.2 or later, begun at once (with ALPN "postgresql") or after an
//     SSLRequest, with a certificate for the endpoint's domain.
//   - The cluster is found by the name that TLS was begun with (SNI), which may be
//     the endpoint or its PrivateLink form, or else by the startup option
//     amzn-cluster-id. A client that sends neither is refused in DSQL's words.
//   - The password is a token, in clear, and is verified as AWS would: signature,
//     service, region, host, action against the role, dates, lifetime, session
//     token. Both forms of a token, HOST?… and HOST/?…, are taken.
//   - Refusals have the SQLSTATE, the words and the hint that were recorded from
//     real clusters. [Cluster.LastRefusal] tells the exact reason besides.
//   - One database, postgres; the role admin, and those of [WithRole].
//
// # Faults
//
// Methods of [Cluster] make go wrong what does go wrong: [Cluster.ConflictNext] and
// [Cluster.SchemaConflictNext] at COMMIT, [Cluster.CutAtCommit], [Cluster.CutConnections],
// [Cluster.ExpireSessions], [Cluster.RefuseConnections], [Cluster.Wake],
// [Cluster.Pause] and [Cluster.Resume], [Cluster.SetLatency], [Cluster.OffsetClock].
// [WithConnectionLimit] and [WithConnectRate] enforce quotas. [Cluster.Stats] counts.
// COMMIT is known by its first word, alone in a Query message or prepared; one
// in a string of several statements, or in one pipeline with its BEGIN, is left to
// PostgreSQL.
//
// # What is not
//
//   - SQL is PostgreSQL's: statements, limits and locks that DSQL does not have work
//     here. A row that another transaction has written is waited for; then, or in a
//     deadlock, the conflict is told in DSQL's words, but at the statement and not at
//     COMMIT. The isolation level is repeatable read unless asked otherwise.
//   - current_database() and version() tell of the PostgreSQL behind.
//   - Roles that are made with CREATE ROLE cannot connect, and are shared by the
//     clusters of a process.
//   - A message of a client over 10 MiB is refused with 08P01, as the documentation has
//     it; a real cluster was seen to close the connection without a word.
//   - Not recorded from a real cluster, and so a guess: the SQLSTATE 08006 of a missing
//     or unknown SNI and of "waking up cluster"; what a client without TLS, of another
//     database or with an unknown role is told; the end of the hint "Signature
//     expired: "; no hint for a wrong region, host, service or signature; five minutes
//     of clock skew allowed; cancel requests, which work here.
package dsqltest
