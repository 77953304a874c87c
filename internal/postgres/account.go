//go:build linux || darwin

package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// account is the user that PostgreSQL and its helper programs run as: PostgreSQL refuses to run as
// root.
type account struct {
	name       string
	uid        uint32
	credential *syscall.Credential // nil: as this process
}

func serverAccount() (account, error) {
	uid := os.Geteuid()
	if uid != 0 {
		return account{name: "of this process", uid: uint32(uid)}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return account{}, fmt.Errorf("dsqltest: the IDs of user %s: %w", name, err)
		}
		return account{
			name:       name,
			uid:        uint32(uid),
			credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)},
		}, nil
	}
	return account{}, errors.New("dsqltest: PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it as: create one of them")
}

// command prepares a program that runs as the account, in a session of its own so that Ctrl-C in
// the terminal does not reach it.
func (a account) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = "/" // the account may not be able to enter the current directory
	cmd.Env = serverEnv(os.Environ())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: a.credential}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // and its children
	cmd.WaitDelay = time.Second
	return cmd
}

// shell prepares a shell script that runs as the account.
func (a account) shell(ctx context.Context, script string, args ...string) *exec.Cmd {
	return a.command(ctx, "/bin/sh", append([]string{"-c", script, "dsqltest"}, args...)...)
}

// serverEnv removes variables that change the behavior of PostgreSQL's programs, and makes sure
// that the scripts find cp and rm.
func serverEnv(environ []string) []string {
	env := []string{"LC_ALL=C", "TZ=UTC", "PATH=/usr/bin:/bin:" + os.Getenv("PATH")}
	for _, v := range environ {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "PG") || strings.HasPrefix(name, "LC_") || strings.HasPrefix(name, "LANG") || name == "TZ" || name == "PATH" {
			continue
		}
		env = append(env, v)
	}
	return env
}
