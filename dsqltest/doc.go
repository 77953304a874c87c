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
//   - Roles: admin; those of CREATE ROLE, which connect while AWS IAM GRANT ties them
//     to [Cluster.Principal]; those of [WithRole], which does both.
//   - No writer waits for another. Of two that write one row, the loser's COMMIT
//     answers 40001 (OC000); a change of the schema is met once by every other
//     session, as 40001 (OC001).
//   - What DSQL does not have is refused in its words: statements, types, settings,
//     isolation levels, savepoints, two DDL statements in one transaction, DDL beside
//     DML, more than 3,000 rows or 10 MiB, transactions of over 300 seconds.
//     CREATE INDEX ASYNC has a job in sys.jobs, for sys.wait_for_job.
//
// docs/testing.md has the table of what is refused.
//
// # Faults
//
// Methods of [Cluster] make go wrong what does go wrong: [Cluster.ConflictNext] and
// [Cluster.SchemaConflictNext] at COMMIT, [Cluster.CutAtCommit], [Cluster.CutConnections],
// [Cluster.ExpireSessions], [Cluster.RefuseConnections], [Cluster.SetWaking],
// [Cluster.Pause] and [Cluster.Resume], [Cluster.SetLatency], [Cluster.SetClockOffset].
// [WithConnectionLimit] and [WithConnectQuota] enforce quotas. [Cluster.Stats] counts.
// [Schema] applies files.
//
// # What is not
//
//   - The second to write a row loses, even if the first then rolls back. What a
//     transaction has lost it does not see. Where the answer to a statement cannot be
//     made up, as with RETURNING, the statement fails and not the COMMIT.
//   - What was only locked, by FOR UPDATE, is free once its transaction has ended.
//   - Indexes are built at once. Keys may be as long as PostgreSQL's.
//   - A message of a client over 10 MiB is refused with 08P01, as the documentation has
//     it; a real cluster was seen to close the connection without a word.
//   - Not recorded from a real cluster, and so a guess: the SQLSTATE 08006 of a missing
//     or unknown SNI and of "waking up cluster"; what a client without TLS, of another
//     database or with an unknown role is told; the FATAL for a startup parameter; the
//     end of the hint "Signature expired: "; no hint for a wrong region, host, service
//     or signature; five minutes of clock skew allowed; cancel requests, which work here.
//
// docs/testing.md has all that is known to differ.
package dsqltest
