//go:build !linux && !darwin

package postgres

import (
	"context"
	"fmt"
	"os"
	"runtime"
)

// Locate fails as Start does.
func Locate(context.Context) (string, error) {
	_, err := start(context.Background())
	return "", err
}

// start fails: the supervisor needs Unix processes.
func start(context.Context) (*Server, error) {
	return nil, fmt.Errorf("dsqltest: runs PostgreSQL on Linux and macOS only, not on %s: use a container or WSL", runtime.GOOS)
}

// StartKept fails as Start does.
func StartKept(ctx context.Context, _ string, _ *os.File, _ string) (*Server, string, error) {
	_, err := start(ctx)
	return nil, "", err
}

// Stop does nothing.
func (s *Server) Stop() error { return nil }

// Install fails as Start does.
func Install(context.Context, string, func(context.Context, string) error) (string, error) {
	_, err := start(context.Background())
	return "", err
}

// IgnorePackages does nothing: there is nothing to ignore.
func IgnorePackages() {}
