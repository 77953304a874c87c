// Package compat has tests only: what other libraries on pgx do with a pool of
// [dsql.Connector.PoolConfig].
//
// scany works as anywhere. sqlc has an example of its own, ../sqlc.
//
// River takes the pool, and cannot use the cluster: its migrations make columns of
// bigserial and of arrays, an enum type, and several tables in one transaction, and its
// clients use LISTEN and advisory locks. DSQL has none of these. Put River's tables into a
// PostgreSQL, and DSQL's data beside it: what must not be lost between the two needs an
// outbox table in DSQL.
package compat
