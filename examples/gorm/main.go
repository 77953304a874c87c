// Command gorm uses GORM on the *sql.DB of dsql.OpenDB, with transactions that are retried on
// conflict.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/examples/internal/cluster"
	"github.com/go-dsql/dsql/occ"
)

// Book has a random key that the cluster generates. Random keys spread writes over the storage,
// unlike sequential numbers.
type Book struct {
	ID     string `gorm:"type:uuid;default:gen_random_uuid()"`
	Title  string
	Copies int
}

// TableName returns the table of the model, for GORM.
func (Book) TableName() string { return "gorm_book" }

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		cluster.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	c, err := cluster.Open(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	db, err := dsql.OpenDB(ctx, c.Endpoint, c.Region, c.Options...)
	if err != nil {
		return err
	}
	defer db.Close()
	orm, err := open(db)
	if err != nil {
		return err
	}

	// AutoMigrate does not work for every change: see docs/integrations.md.
	for _, ddl := range []string{
		"DROP TABLE IF EXISTS gorm_book",
		"CREATE TABLE gorm_book (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), title text NOT NULL, copies bigint NOT NULL)",
	} {
		if err := apply(ctx, db, ddl); err != nil {
			return err
		}
	}
	if err := work(ctx, db, orm, out); err != nil {
		return err
	}
	return apply(ctx, db, "DROP TABLE gorm_book")
}

// open opens GORM on db. A single write needs no transaction, and DSQL has no savepoints for nested
// ones.
func open(db *sql.DB) (*gorm.DB, error) {
	return gorm.Open(postgres.New(postgres.Config{Conn: db}), &gorm.Config{
		SkipDefaultTransaction:   true,
		DisableNestedTransaction: true,
	})
}

func apply(ctx context.Context, db *sql.DB, ddl string) error {
	return occ.Retry(ctx, func(ctx context.Context) error {
		_, err := db.ExecContext(ctx, ddl)
		return err
	})
}

func work(ctx context.Context, db *sql.DB, orm *gorm.DB, out io.Writer) error {
	books := []Book{{Title: "Emma", Copies: 3}, {Title: "Persuasion", Copies: 1}}
	if err := orm.WithContext(ctx).Create(&books).Error; err != nil {
		return err
	}
	// A function that is retried must do all of its work in the transaction.
	err := occ.RunSQLTx(ctx, db, func(tx *sql.Tx) error {
		if err := lend(inTx(ctx, orm, tx), "Emma"); err != nil {
			return err
		}
		return lend(inTx(ctx, orm, tx), "Persuasion")
	})
	if err != nil {
		return err
	}
	var left []Book
	if err := orm.WithContext(ctx).Order("title").Find(&left).Error; err != nil {
		return err
	}
	for _, book := range left {
		fmt.Fprintf(out, "%s: %d left\n", book.Title, book.Copies)
	}
	return nil
}

// inTx returns a GORM session in a transaction of database/sql.
func inTx(ctx context.Context, orm *gorm.DB, tx *sql.Tx) *gorm.DB {
	session := orm.Session(&gorm.Session{Context: ctx, NewDB: true})
	session.Statement.ConnPool = tx
	return session
}

func lend(orm *gorm.DB, title string) error {
	done := orm.Model(&Book{}).Where("title = ? AND copies > 0", title).Update("copies", gorm.Expr("copies - 1"))
	if done.Error != nil {
		return done.Error
	}
	if done.RowsAffected == 0 {
		return fmt.Errorf("no copy of %q is left", title)
	}
	return nil
}
