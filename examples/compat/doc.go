// Package compat has tests only: what other libraries on pgx do with a pool of
// [dsql.Connector.PoolConfig].
//
// scany works as anywhere. sqlc has an example of its own, ../sqlc.
//
// River takes the pool, and cannot use the cluster, as of v0.51.2. Its migrations need
// bigserial, an enum type, columns of arrays and of bits, unlogged tables, triggers,
// functions in plpgsql, DO blocks and several DDL statements in one transaction. DSQL
// has none of these. River's tables cannot be made by hand in another way, as its
// statements cast to the enum type and read the arrays back. So a client that only
// inserts fails too, and so does one with PollOnly, which spares it LISTEN and nothing
// else.
//
// Put River's tables into a PostgreSQL, and DSQL's data beside it: what must not be lost
// between the two needs an outbox table in DSQL.
package compat
