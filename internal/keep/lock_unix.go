//go:build unix

package keep

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lock locks a file until it and the descriptors that child processes have of it are closed.
func lock(ctx context.Context, file string) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("dsql: opening the data directory: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			f.Close()
			if err == syscall.EWOULDBLOCK {
				return nil, fmt.Errorf("dsql: another dsql serve uses the directory of %s: stop it first, or use another directory", file)
			}
			return nil, fmt.Errorf("dsql: locking %s: %w", file, err)
		}
	}
}
