//go:build !windows && !plan9

package errno

import "syscall"

// Refused, Unreachable and Reset list what the operating system calls a refused connection, a missing
// route and a cut connection.
var (
	Refused     = []error{syscall.ECONNREFUSED}
	Unreachable = []error{syscall.ENETUNREACH, syscall.EHOSTUNREACH}
	Reset       = []error{syscall.ECONNRESET, syscall.EPIPE}
)
