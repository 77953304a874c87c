// Package errno knows what an operating system calls the failures of a connection.
package errno

import (
	"errors"
	"slices"
)

// In reports whether err is or wraps one of errnos.
func In(err error, errnos []error) bool {
	return slices.ContainsFunc(errnos, func(errno error) bool { return errors.Is(err, errno) })
}
