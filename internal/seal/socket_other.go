//go:build !linux

package seal

import "syscall"

// setUserTimeout does nothing: the system has no such option, or none by this name.
func setUserTimeout(_, _ string, _ syscall.RawConn) error { return nil }
