// Package dsqltest runs a local cluster that behaves like Amazon Aurora DSQL as far as a client can
// observe, for tests that need no AWS account.
//
//	func TestCities(t *testing.T) {
//		c := dsqltest.Start(t)
//		pool, err := dsql.NewPool(t.Context(), c.Endpoint(), c.Region(), c.Options()...)
//		…
//	}
//
// Behind it runs real PostgreSQL, 14 to 18, found in $DSQLTEST_POSTGRES (a directory, or the path
// of postgres), on PATH, or where packages install it. If none is found, the error says what to
// install; the module dsqltest/embedded downloads one. It runs on Linux and macOS; as root it runs
// as the user postgres, or nobody if there is no such user. All clusters of a process share one
// PostgreSQL server, which ends with the process. Each cluster is a database of its own, so tests
// run in parallel.
//
// # Fidelity
//
//   - TLS is required, 1.2 or later, either direct (with ALPN "postgresql") or after an SSLRequest.
//     The certificate is for the endpoint's domain.
//   - The cluster is found by the SNI hostname, which may be the endpoint or its PrivateLink form,
//     otherwise by the startup option amzn-cluster-id. A client that sends neither is refused with
//     DSQL's message.
//   - The password is a token, in cleartext, and is verified as AWS would: signature, service,
//     region, host, action against the role, dates, lifetime, session token. Both forms of a token,
//     HOST?… and HOST/?…, are accepted.
//   - Refusals carry the SQLSTATE, the message and the hint that were recorded from real clusters.
//     [Cluster.LastRefusal] returns the exact reason.
//   - Roles are admin; those of CREATE ROLE, which may connect once AWS IAM GRANT has granted them
//     to [Cluster.Principal]; and those of [WithRole], which does both.
//   - Writers never block. Of two transactions that write or lock one row, the first to
//     commit wins; the other sees its own writes until its COMMIT fails with 40001 (OC000).
//     After a schema change, every other session fails once with 40001 (OC001).
//   - What DSQL does not support is refused in its words: statements, types, settings, isolation
//     levels, savepoints, two DDL statements in one transaction, DDL together with DML, more than
//     3,000 rows or 10 MiB, transactions of more than 300 seconds. CREATE INDEX ASYNC creates a job
//     in sys.jobs, for sys.wait_for_job.
//
// docs/testing.md lists what is refused.
//
// # Faults
//
// Methods of [Cluster] inject faults: [Cluster.ConflictNext] and [Cluster.SchemaConflictNext] at
// COMMIT, [Cluster.CutAtCommit], [Cluster.CutConnections], [Cluster.ExpireSessions],
// [Cluster.RefuseConnections], [Cluster.SetWaking], [Cluster.Pause] and [Cluster.Resume],
// [Cluster.SetLatency], [Cluster.SetClockOffset]. [Cluster.Cut] and [Cluster.BlackHole] take an
// endpoint down; with [WithPeer] the cluster has two. [Cluster.ConflictOn],
// [Cluster.HoldIndexJobs] and [Cluster.FailIndexJobs] have a target. [Cluster.Restore] ends all
// faults. [WithConnectionLimit] and [WithConnectQuota] enforce quotas. [Cluster.Stats] counts and
// [Cluster.Log] lists. [Schema] applies schema files.
//
// [Cluster.URL] and [Cluster.Env] are for programs that take a URL and an environment.
//
// # Known differences
//
//   - A write waits up to a third of a second for a session that is executing a statement in a
//     transaction that holds the row. A COMMIT also fails with 40001 (OC000) if the transaction
//     yielded its rows to another and its statements had returned values of a sequence.
//   - CREATE INDEX ASYNC builds the index synchronously; its job ends a tenth of a second later.
//   - A client's message over 10 MiB is refused with 08P01, as documented; a real cluster was seen
//     to close the connection silently.
//   - Unverified, for lack of records from a real cluster: the SQLSTATE 08006 of a missing or
//     unknown SNI and of "waking up cluster"; the replies to a client without TLS, with another
//     database or with an unknown role; the FATAL for a startup parameter; the end of the hint
//     "Signature expired: "; no hint for a wrong region, host, service or signature; five minutes
//     of allowed clock skew; cancel requests, which work here.
//
// docs/testing.md lists all known differences.
package dsqltest
