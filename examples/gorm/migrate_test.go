package main

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/dsqltest"
)

type Shelf struct {
	ID   string `gorm:"type:uuid;primaryKey;default:gen_random_uuid()"`
	Name string
}

// migrateShelf creates the table with AutoMigrate and the index without it.
func migrateShelf(ctx context.Context, orm *gorm.DB) error {
	orm = orm.WithContext(ctx)
	if err := orm.AutoMigrate(&Shelf{}); err != nil { // one model for each call: one DDL statement for each transaction
		return err
	}
	var job string
	err := orm.Raw("CREATE INDEX ASYNC IF NOT EXISTS shelf_name ON shelves (name)").Scan(&job).Error
	if err != nil || job == "" {
		return err
	}
	return orm.Exec("CALL sys.wait_for_job(?)", job).Error
}

func openEmpty(t *testing.T) *gorm.DB {
	t.Helper()
	c := dsqltest.Start(t)
	db, err := dsql.OpenDB(t.Context(), c.Endpoint(), c.Region(), c.Options()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	orm, err := open(db)
	if err != nil {
		t.Fatal(err)
	}
	orm.Logger = logger.Discard
	return orm
}

func TestMigrateShelf(t *testing.T) {
	orm := openEmpty(t)
	for range 2 { // it is idempotent
		if err := migrateShelf(t.Context(), orm); err != nil {
			t.Fatal(err)
		}
	}
	if !orm.Migrator().HasIndex("shelves", "shelf_name") {
		t.Fatal("there is no index")
	}
	// AutoMigrate adds a column without a default.
	type shelf struct {
		ID    string `gorm:"type:uuid;primaryKey;default:gen_random_uuid()"`
		Floor int64
	}
	if err := orm.Table("shelves").AutoMigrate(&shelf{}); err != nil {
		t.Fatal(err)
	}
	if !orm.Migrator().HasColumn("shelves", "floor") {
		t.Fatal("there is no column")
	}
}

func TestWhatAutoMigrateCannotDo(t *testing.T) {
	orm := openEmpty(t)
	if err := migrateShelf(t.Context(), orm); err != nil {
		t.Fatal(err)
	}
	type index struct {
		ID   string `gorm:"type:uuid;primaryKey"`
		Name string `gorm:"index"`
	}
	type number struct{ ID uint }
	type defaulted struct {
		ID string `gorm:"type:uuid;primaryKey"`
		N  int    `gorm:"default:1"`
	}
	type retyped struct {
		ID   string `gorm:"type:uuid;primaryKey"`
		Name int64
	}
	for want, err := range map[string]error{
		"unsupported mode. please use CREATE INDEX ASYNC.":                 orm.AutoMigrate(&index{}),
		`type "bigserial" does not exist`:                                  orm.AutoMigrate(&number{}),
		"ALTER TABLE ADD COLUMN with constraint not supported":             orm.Table("shelves").AutoMigrate(&defaulted{}),
		"unsupported ALTER TABLE ALTER COLUMN ... SET DATA TYPE statement": orm.Table("shelves").AutoMigrate(&retyped{}),
	} {
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Message != want {
			t.Errorf("%v, not %s", err, want)
		}
		if dsql.Explain(err) == "" {
			t.Errorf("%v is not explained", err)
		}
	}
}
