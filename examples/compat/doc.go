// Package compat tests other libraries with DSQL: scany and River on a pool of
// [dsql.Connector.PoolConfig], and pgx's batches and COPY. docs/integrations.md has the results.
//
// scany works as usual.
//
// River accepts the pool but cannot use the cluster, as of v0.51.2. Its migrations need bigserial,
// an enum type, array and bit columns, unlogged tables, triggers, plpgsql functions, DO blocks and
// several DDL statements in one transaction, none of which DSQL has. Its tables cannot be created
// in another form, because its statements cast to the enum type and read the arrays. A client that
// only inserts therefore fails too, and so does one with PollOnly, which avoids LISTEN only.
//
// Keep River's tables in PostgreSQL next to DSQL. An outbox table in DSQL connects the two without
// losing jobs.
package compat
