package explain

import "syscall"

// What the operating system calls a refused connection, a missing route and a cut connection. Sockets
// report Winsock's numbers; package syscall names only some of them, and its POSIX names are others.
// https://learn.microsoft.com/en-us/windows/win32/winsock/windows-sockets-error-codes-2
var (
	refusedErrnos     = []error{syscall.Errno(10061), syscall.ECONNREFUSED}
	unreachableErrnos = []error{syscall.Errno(10051), syscall.Errno(10065), syscall.ENETUNREACH, syscall.EHOSTUNREACH}
	resetErrnos       = []error{syscall.WSAECONNRESET, syscall.WSAECONNABORTED, syscall.ECONNRESET}
)
