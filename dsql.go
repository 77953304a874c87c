// Package dsql opens Amazon Aurora DSQL with pgx.
//
//	pool, err := dsql.NewPool(ctx, "<cluster ID>.dsql.us-east-1.on.aws", "", dsql.WithUser("app"))
//
// The pool is a plain [*pgxpool.Pool]. Every new connection carries a fresh IAM token as its
// password, signed locally with the AWS credentials of the default chain or of an option. TLS
// cannot be turned off: the certificate is verified against the endpoint's name, and TLS is direct,
// without PostgreSQL's negotiation round trip. The port is 5432, the database is postgres, and the
// role is admin unless [WithUser] names another. Nothing from PG* environment variables, service
// files or ~/.pgpass changes a connection; of those, only a PGSERVICE that cannot be read is an
// error.
//
// # Roles
//
// admin is for setup. A service should use a custom database role, created by admin with
//
//	CREATE ROLE app WITH LOGIN
//	AWS IAM GRANT app TO 'arn:aws:iam::<account>:role/<name>'
//
// and an IAM policy that allows dsql:DbConnect on the cluster (admin needs dsql:DbConnectAdmin).
// Such roles cannot create objects in the schema public: create a schema, grant it, and set
// search_path with [WithRuntimeParam].
package dsql

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// version is this module's, as application_name shows it.
const version = "0.1.0"

// NewPool returns a pool for the cluster at endpoint. region may be empty when it can be inferred
// from the endpoint.
//
// NewPool checks everything that can be checked without the cluster, including that there are
// credentials (see [NewConnector]), and does not connect: the first Acquire, query or Ping does,
// and reports what is wrong. [Explain] says what to do about it, as the Hint of the *pgconn.PgError
// does in short. One pool serves a whole program; close it at the end.
//
// Unless [WithPoolConfig] sets others: connections live 50 minutes plus up to 5 at random, which
// stays under DSQL's 60-minute limit; idle ones are closed after 10 minutes (4 with
// [WithFailover]); none are opened eagerly; a connect times out after 10 seconds, from the DNS
// lookup through authentication, and the ping of an idle connection after 5. A lifetime of 60
// minutes or more, jitter included, is refused.
func NewPool(ctx context.Context, endpoint, region string, opts ...Option) (*pgxpool.Pool, error) {
	c, err := NewConnector(ctx, Config{Endpoint: endpoint, Region: region}, opts...)
	if err != nil {
		return nil, explained(err)
	}
	return c.NewPool(ctx)
}

// Connect opens one connection to the cluster at endpoint. region may be empty when it can be
// inferred from the endpoint. DSQL closes the connection after 60 minutes. Errors include what
// [Explain] says about them.
func Connect(ctx context.Context, endpoint, region string, opts ...Option) (*pgx.Conn, error) {
	c, err := NewConnector(ctx, Config{Endpoint: endpoint, Region: region}, opts...)
	if err != nil {
		return nil, explained(err)
	}
	cc, err := c.ConnConfig(ctx)
	if err != nil {
		return nil, explained(err)
	}
	conn, err := pgx.ConnectConfig(ctx, cc)
	return conn, explained(err)
}
