package main

import (
	"bytes"
	"database/sql"
	"sync"
	"testing"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
	"github.com/go-dsql/dsql/occ"
)

func TestGORM(t *testing.T) {
	t.Setenv("DSQL_ENDPOINT", "")
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if want := "Emma: 2 left\nPersuasion: 0 left\n"; out.String() != want {
		t.Fatalf("printed %q, not %q", out.String(), want)
	}
}

// Eight goroutines lend the same book at once, and no update is lost.
func TestLendingIsRetriedOnConflict(t *testing.T) {
	c := dsqltest.Start(t)
	db, err := dsql.OpenDB(t.Context(), c.Endpoint(), c.Region(), c.Options()...)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	orm, err := open(db)
	if err != nil {
		t.Fatal(err)
	}
	if err := apply(t.Context(), db, "CREATE TABLE gorm_book (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), title text NOT NULL, copies bigint NOT NULL)"); err != nil {
		t.Fatal(err)
	}
	if err := orm.Create(&Book{Title: "Emma", Copies: 8}).Error; err != nil {
		t.Fatal(err)
	}
	var borrowers sync.WaitGroup
	for range 8 {
		borrowers.Go(func() {
			err := occ.RunSQLTx(t.Context(), db, func(tx *sql.Tx) error {
				return lend(inTx(t.Context(), orm, tx), "Emma")
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	borrowers.Wait()
	var book Book
	if err := orm.First(&book).Error; err != nil {
		t.Fatal(err)
	}
	if book.Copies != 0 {
		t.Fatalf("%d copies are left, not 0", book.Copies)
	}
}
