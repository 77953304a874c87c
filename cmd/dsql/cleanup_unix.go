//go:build unix

package main

import (
	"fmt"
	"os/exec"
	"sync"
	"syscall"
)

// removeAtEnd removes files when the function is called, or when this process ends in any way: a
// shell waits for the end of a pipe that the system closes.
func removeAtEnd(paths []string) (func(), error) {
	cmd := exec.Command("/bin/sh", append([]string{"-c", `trap : HUP INT TERM; read -r _; rm -rf -- "$@"`, "dsql"}, paths...)...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // not reached by the terminal's interrupt
	lifeline, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("dsql: starting a shell that cleans up: %w", err)
	}
	return sync.OnceFunc(func() {
		_ = lifeline.Close()
		_ = cmd.Wait()
	}), nil
}
