package explain

import "syscall"

// What the operating system calls a refused connection, a missing route and a cut connection.
var (
	refusedErrnos     = []error{syscall.NewError("connection refused")}
	unreachableErrnos = []error{syscall.NewError("network is unreachable"), syscall.NewError("host is unreachable")}
	resetErrnos       = []error{syscall.NewError("connection reset")}
)
