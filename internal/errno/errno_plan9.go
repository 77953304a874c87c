package errno

import "syscall"

// Refused, Unreachable and Reset list what the operating system calls a refused connection, a missing
// route and a cut connection.
var (
	Refused     = []error{syscall.NewError("connection refused")}
	Unreachable = []error{syscall.NewError("network is unreachable"), syscall.NewError("host is unreachable")}
	Reset       = []error{syscall.NewError("connection reset")}
)
