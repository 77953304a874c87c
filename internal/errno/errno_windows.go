package errno

import "syscall"

// Refused, Unreachable and Reset list what the operating system calls a refused connection, a missing
// route and a cut connection. Sockets report Winsock's numbers; package syscall names only some of
// them, and its POSIX names are others.
// https://learn.microsoft.com/en-us/windows/win32/winsock/windows-sockets-error-codes-2
var (
	Refused     = []error{syscall.Errno(10061), syscall.ECONNREFUSED}
	Unreachable = []error{syscall.Errno(10051), syscall.Errno(10065), syscall.ENETUNREACH, syscall.EHOSTUNREACH}
	Reset       = []error{syscall.WSAECONNRESET, syscall.WSAECONNABORTED, syscall.ECONNRESET}
)
