package dsqltest_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
)

func ExampleStart() {
	test := func(t *testing.T) {
		c := dsqltest.Start(t)
		pool, err := dsql.NewPool(t.Context(), c.Endpoint(), c.Region(), c.Options()...)
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		// The cluster is empty, and this test's alone.
	}
	_ = test
}

func ExampleRun() {
	ctx := context.Background()
	c, err := dsqltest.Run(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	pool, err := dsql.NewPool(ctx, c.Endpoint(), c.Region(), c.Options()...)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	var role string
	if err := pool.QueryRow(ctx, "SELECT current_user").Scan(&role); err != nil {
		log.Fatal(err)
	}
	fmt.Println(role)
	// Output: admin
}

func ExampleCluster_LastRefusal() {
	ctx := context.Background()
	c, err := dsqltest.Run(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	_, err = dsql.Connect(ctx, c.Endpoint(), c.Region(), append(c.Options(), dsql.WithUser("app"))...)
	var told *pgconn.PgError
	if errors.As(err, &told) {
		fmt.Println(told.Code, told.Message)
	}
	refusal, _ := c.LastRefusal()
	fmt.Println(refusal.Reason)
	// Output:
	// 28000 unable to accept connection, access denied
	// role: "app" does not exist; use dsqltest.WithRole, or CREATE ROLE … WITH LOGIN and AWS IAM GRANT
}

func ExampleWithRole() {
	ctx := context.Background()
	c, err := dsqltest.Run(ctx, dsqltest.WithRole("app"))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	conn, err := dsql.Connect(ctx, c.Endpoint(), c.Region(), append(c.Options(), dsql.WithUser("app"))...)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)
	fmt.Println(conn.Config().User)
	// Output: app
}
