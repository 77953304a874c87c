package dsqltest

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/occ"
)

func TestSchemaAppliesFilesInOrderAndWaitsForIndexes(t *testing.T) {
	c := Start(t)
	Schema(t, c, fstest.MapFS{
		"002_index.sql":    {Data: []byte("CREATE INDEX ASYNC city_name ON city (name);")},
		"001_tables.sql":   {Data: []byte("-- a comment; with a semicolon\nCREATE TABLE city (id int PRIMARY KEY, name text);\nINSERT INTO city VALUES (1, 'a;b');\n")},
		"notes.txt":        {Data: []byte("no SQL")},
		"below/003_no.sql": {Data: []byte("no SQL")},
	})
	conn := connect(t, c)
	var name, status string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT name FROM city").Scan(&name))
	require.Equal(t, "a;b", name)
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT status FROM sys.jobs").Scan(&status))
	require.Equal(t, "completed", status)
}

func TestSchemaWaitsForTheIndexOfAConstraint(t *testing.T) {
	c := Start(t)
	Schema(t, c, fstest.MapFS{"1.sql": {Data: []byte(`CREATE TABLE city (id int PRIMARY KEY, name text);
		CREATE UNIQUE INDEX ASYNC city_name ON city (name);
		ALTER TABLE city ADD CONSTRAINT city_name UNIQUE USING INDEX city_name;`)}})
	var contype string
	require.NoError(t, connect(t, c).QueryRow(t.Context(), "SELECT contype::text FROM pg_constraint WHERE conname = 'city_name'").Scan(&contype))
	require.Equal(t, "u", contype)
}

func TestSchemaIsTriedAgainAfterAConflict(t *testing.T) {
	c := Start(t)
	apply(t, connect(t, c), "CREATE TABLE t (id int PRIMARY KEY)")
	require.NoError(t, c.ConflictOn(2, "t"))
	Schema(t, c, fstest.MapFS{"1.sql": {Data: []byte("INSERT INTO t VALUES (1)")}})
	require.Equal(t, 2, c.Stats().Conflicts)
}

func TestSchemaNamesTheFileAndTheStatementThatFails(t *testing.T) {
	c := Start(t)
	for text, want := range map[string]string{
		"CREATE TABLE t (id int); CREATE INDEX ON t (id)":                                                         "1.sql: CREATE INDEX ON t (id): ERROR: unsupported mode. please use CREATE INDEX ASYNC.",
		"CREATE TABLE twice (id int); INSERT INTO twice VALUES (1), (1); CREATE UNIQUE INDEX ASYNC ON twice (id)": "1.sql: CREATE UNIQUE INDEX ASYNC ON twice (id): an index build failed: Found duplicate key while validating index for UCVs",
	} {
		require.ErrorContains(t, c.ApplySchema(t.Context(), fstest.MapFS{"1.sql": {Data: []byte(text)}}), want)
	}
	require.ErrorContains(t, c.ApplySchema(t.Context(), fstest.MapFS{}), "dsqltest: the schema must have files *.sql")
}

// A copy of a schema knows its functions, any of which may write.
func TestFunctionsOfACopiedSchemaConflict(t *testing.T) {
	schema := fstest.MapFS{"1.sql": {Data: []byte(`CREATE TABLE n (id int PRIMARY KEY, v int);
		INSERT INTO n VALUES (1, 0);
		CREATE FUNCTION add_one() RETURNS void LANGUAGE sql AS 'UPDATE n SET v = v + 1 WHERE id = 1'`)}}
	for range 2 {
		c := Start(t)
		Schema(t, c, schema)
		a, b := connect(t, c), connect(t, c)
		apply(t, a, "BEGIN", "SELECT add_one()")
		apply(t, b, "BEGIN", "SELECT add_one()", "COMMIT")
		_, err := a.Exec(t.Context(), "COMMIT")
		require.True(t, occ.IsConflict(err), "%v", err)
	}
}
