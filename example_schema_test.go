package dsql_test

import (
	"context"
	"fmt"
	"log"
	"testing/fstest"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/occ"
)

// localPool opens a pool of a local cluster, and returns what ends both.
func localPool(ctx context.Context) (*pgxpool.Pool, func()) {
	c := local(ctx)
	pool, err := dsql.NewPool(ctx, c.Endpoint(), c.Region(), c.Options()...)
	if err != nil {
		log.Fatal(err)
	}
	return pool, func() {
		pool.Close()
		c.Close()
	}
}

// Create a unique index and use it when it is valid.
func ExampleCreateIndex() {
	ctx := context.Background()
	pool, end := localPool(ctx)
	defer end()
	if _, err := pool.Exec(ctx, "CREATE TABLE city (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text)"); err != nil {
		log.Fatal(err)
	}

	err := dsql.CreateIndex(ctx, pool, "CREATE UNIQUE INDEX ASYNC IF NOT EXISTS city_name ON city (name)")
	if err != nil {
		log.Fatal(err)
	}
	tag, err := pool.Exec(ctx, "INSERT INTO city (name) VALUES ('Quito'), ('Lagos') ON CONFLICT (name) DO NOTHING")
	fmt.Println(tag, err)
	// Output: INSERT 0 2 <nil>
}

// Validate a constraint, which is a job as the build of an index is.
func ExampleWaitForJob() {
	ctx := context.Background()
	pool, end := localPool(ctx)
	defer end()
	schema := fstest.MapFS{"1.sql": {Data: []byte(`
		CREATE TABLE city (name text PRIMARY KEY, population bigint);
		INSERT INTO city VALUES ('Quito', 1763000);
		ALTER TABLE city ADD CONSTRAINT positive CHECK (population > 0) NOT VALID;`)}}
	if err := dsql.ApplySchema(ctx, pool, schema); err != nil {
		log.Fatal(err)
	}

	var job string
	err := occ.Retry(ctx, func(ctx context.Context) error {
		return pool.QueryRow(ctx, "ALTER TABLE ASYNC city VALIDATE CONSTRAINT positive").Scan(&job)
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(dsql.WaitForJob(ctx, pool, job))
	// Output: <nil>
}

// Apply schema files with each start of a service.
func ExampleApplySchema() {
	ctx := context.Background()
	pool, end := localPool(ctx)
	defer end()

	files := fstest.MapFS{ // or an embed.FS, or os.DirFS
		"001_city.sql": {Data: []byte("CREATE TABLE IF NOT EXISTS city (id int PRIMARY KEY, name text);")},
		"002_name.sql": {Data: []byte("CREATE UNIQUE INDEX ASYNC IF NOT EXISTS city_name ON city (name);")},
		"003_rows.sql": {Data: []byte("INSERT INTO city VALUES (1, 'Quito'), (2, 'Lagos') ON CONFLICT (name) DO NOTHING;")},
	}
	for range 2 {
		if err := dsql.ApplySchema(ctx, pool, files); err != nil {
			log.Fatal(err)
		}
	}
	var n int
	err := pool.QueryRow(ctx, "SELECT count(*) FROM city").Scan(&n)
	fmt.Println(n, err)
	// Output: 2 <nil>
}
