package dsqltest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/go-dsql/dsql/internal/postgres"
	"github.com/go-dsql/dsql/internal/schema"
)

// template is a database that clusters' databases are copied from. It stays until the process ends.
type template struct {
	mu        sync.Mutex
	database  string // empty: not made yet
	functions []string
	unused    chan string // copies that no client has connected to, for the next clusters
}

var (
	blank     = newTemplate(postgres.Blank)
	templates sync.Map // *template by hash of the roles and the schema
)

// maxUnused is how many copies a template keeps for the next clusters: about as many as tests start
// at a time. Each takes megabytes, perhaps of memory.
const maxUnused = 4

func newTemplate(database string) *template {
	return &template{database: database, unused: make(chan string, maxUnused)}
}

// copy returns the name of a new database.
func (t *template) copy(ctx context.Context, server *postgres.Server) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	select {
	case database := <-t.unused:
		return database, nil
	default:
		database := "dsql_" + newClusterID()
		return database, server.CopyDatabase(ctx, database, t.database)
	}
}

// giveBack takes a copy that no client has connected to.
func (t *template) giveBack(ctx context.Context, server *postgres.Server, database string) error {
	select {
	case t.unused <- database:
		return nil
	default:
		return server.DropDatabase(ctx, database)
	}
}

// roleTemplate returns the template with the cluster's roles.
func (c *Cluster) roleTemplate(ctx context.Context) (*template, error) {
	if len(c.roles) == 0 {
		return blank, nil
	}
	return c.templateFor(nil, func(t *template) error {
		database, err := blank.copy(ctx, c.server)
		if err != nil {
			return err
		}
		if err := createRoles(ctx, c.server, database, c.roles...); err != nil {
			return errors.Join(err, c.server.DropDatabase(ctx, database))
		}
		t.database = database
		return nil
	})
}

// schemaTemplate returns the template with the cluster's roles and a schema.
func (c *Cluster) schemaTemplate(ctx context.Context, files map[string]string, units []schema.Unit) (*template, error) {
	return c.templateFor(files, func(t *template) error {
		var opts []Option
		for _, role := range c.roles {
			opts = append(opts, WithRole(role))
		}
		maker, err := Run(ctx, opts...)
		if err != nil {
			return err
		}
		if err := maker.applyUnits(ctx, units); err != nil {
			return errors.Join(err, maker.Close())
		}
		maker.proxy.Close() // its database stays
		t.database, t.functions = maker.database(), maker.proxy.Functions()
		return errors.Join(maker.removeFiles(), c.server.EndSessions(ctx, t.database))
	})
}

// templateFor returns the template with the cluster's roles and a schema's files, and builds it if
// there is none.
func (c *Cluster) templateFor(files map[string]string, build func(*template) error) (*template, error) {
	made, _ := templates.LoadOrStore(sha256.Sum256(fmt.Appendf(nil, "%q%q", c.roles, files)), newTemplate(""))
	t := made.(*template)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.database != "" {
		return t, nil
	}
	return t, build(t)
}

func createRoles(ctx context.Context, server *postgres.Server, database string, roles ...string) error {
	conn, err := server.Connect(ctx, database)
	if err != nil {
		return fmt.Errorf("dsqltest: creating roles: %w", err)
	}
	defer conn.Close(context.Background())
	for _, role := range roles {
		_, err := conn.Exec(ctx, "CALL sys.create_role($1, true)", role)
		if err == nil {
			_, err = conn.Exec(ctx, "CALL sys.iam_grant($1, $2)", role, principal)
		}
		if err != nil {
			return fmt.Errorf("dsqltest: creating the role %q: %w", role, err)
		}
	}
	return nil
}
