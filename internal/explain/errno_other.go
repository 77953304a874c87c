//go:build !windows && !plan9

package explain

import "syscall"

// What the operating system calls a refused connection, a missing route and a cut connection.
var (
	refusedErrnos     = []error{syscall.ECONNREFUSED}
	unreachableErrnos = []error{syscall.ENETUNREACH, syscall.EHOSTUNREACH}
	resetErrnos       = []error{syscall.ECONNRESET, syscall.EPIPE}
)
