package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Standard input may be silent for long: its end is not waited for.
func TestLoadOfStandardInputIsInterrupted(t *testing.T) {
	t.Parallel()
	_, env, conn := loadCluster(t, orderTable)
	for _, tt := range []struct{ input, rows, want string }{
		// More than a pipe takes: the command is reading when all is written.
		{"id" + strings.Repeat(" ", 1<<18), "0", "dsql: interrupted"},
		// The last batch may be larger still.
		{"id\n" + strings.Join(numbers(5000), "\n") + "\n", "4000", "dsql: interrupted; start over"},
	} {
		in, out, err := os.Pipe()
		require.NoError(t, err)
		defer in.Close()
		defer out.Close()
		cmd := dsqlCommand(t, env, "load", "orders", "-", "--rejects", filepath.Join(t.TempDir(), "r"))
		var errs lockedBuffer
		cmd.Stdin, cmd.Stderr = in, &errs
		require.NoError(t, cmd.Start())
		_, err = out.WriteString(tt.input)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return dump(t, conn, "SELECT count(*)::text FROM orders") == tt.rows }, 30*time.Second, 10*time.Millisecond)
		require.NoError(t, cmd.Process.Signal(os.Interrupt))
		hangs := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
		require.Error(t, cmd.Wait())
		hangs.Stop()
		require.Equal(t, 1, cmd.ProcessState.ExitCode())
		require.Contains(t, errs.String(), tt.want)
	}
}

// The test is also the process that it sends signals to.
func TestSecondSignalKills(t *testing.T) {
	if os.Getenv("DSQL_TEST_SIGNALS") != "" {
		ctx := untilSignal()
		fmt.Println("ready")
		<-ctx.Done()
		fmt.Println("ended")
		time.Sleep(time.Minute) // a command that does not end
		return
	}
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSecondSignalKills$")
		cmd.Env = append(bareEnv(t), asCommand+"=", "DSQL_TEST_SIGNALS=1")
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for _, want := range []string{"ready", "ended"} {
			require.True(t, lines.Scan())
			require.Equal(t, want, lines.Text())
			require.NoError(t, cmd.Process.Signal(signal))
		}
		done := make(chan struct{})
		go func() { _ = cmd.Wait(); close(done) }()
		require.Eventually(t, func() bool {
			_ = cmd.Process.Signal(signal) // the first may have come before the handler was removed
			select {
			case <-done:
				return true
			default:
				return false
			}
		}, 30*time.Second, 10*time.Millisecond)
		require.Equal(t, signal, cmd.ProcessState.Sys().(syscall.WaitStatus).Signal())
	}
}
