package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Connect opens a session as superuser.
func (s *Server) Connect(ctx context.Context, database string) (*pgx.Conn, error) {
	return s.connect(ctx, database)
}
