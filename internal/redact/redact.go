// Package redact decides what may be printed of values and errors that came from elsewhere: a
// password typed in the wrong place, or an AWS SDK error that quotes a secret key.
package redact

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os/exec"
	"regexp"
	"strings"
)

// NotShown stands in for what may hold a secret.
const NotShown = "(not shown, it may hold a secret)"

var (
	// Short and without the characters that separate a password from what stands before it.
	plainShape = regexp.MustCompile(`^/?[A-Za-z0-9 _.+<>-]{0,30}$`)
	hostShape  = regexp.MustCompile(`^[A-Za-z0-9 _<>-]{0,63}(\.[A-Za-z0-9 _<>-]{0,63})+$`)
	pathShape  = regexp.MustCompile(`^[A-Za-z0-9 _.:~/\\+-]*$`)
	portShape  = regexp.MustCompile(`:[0-9]{1,6}$`)
)

// Value returns s in quotes if it is short and plain, and NotShown otherwise.
func Value(s string) string {
	if plainShape.MatchString(s) {
		return fmt.Sprintf("%q", s)
	}
	return NotShown
}

// Host returns s in quotes if it has the shape of a host name or of a short word, with or without a
// numeric port, and NotShown otherwise.
func Host(s string) string {
	bare := portShape.ReplaceAllString(s, "")
	if len(s) <= 260 && (plainShape.MatchString(bare) || hostShape.MatchString(bare)) {
		return fmt.Sprintf("%q", s)
	}
	return NotShown
}

// foreign wraps an error of code that is not this library's. Its text leaves that error's out. The
// pointer keeps %#v from printing it.
type foreign struct {
	text string
	err  *error
}

func (f *foreign) Error() string { return f.text }
func (f *foreign) Unwrap() error { return *f.err }

// Wrap returns an error that wraps err and reads text and what is known to be harmless about err.
func Wrap(text string, err error) error {
	if cause := Cause(err); cause != "" {
		text += ": " + cause
	}
	return &foreign{text, &err}
}

// Cause describes err by its kind: an error code, a file, an address, or the name of its type. Any
// other text of err may quote a secret.
func Cause(err error) string {
	var (
		code interface{ ErrorCode() string } // an answer of AWS
		call interface {                     // a call to AWS
			Service() string
			Operation() string
		}
		path *fs.PathError
		exit *exec.ExitError
		op   *net.OpError
		dns  *net.DNSError
	)
	switch {
	case err == nil:
		return ""
	case errors.Is(err, context.Canceled):
		return context.Canceled.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded.Error()
	case errors.As(err, &code) && plainShape.MatchString(code.ErrorCode()):
		return "AWS reports " + code.ErrorCode()
	case errors.As(err, &path):
		return path.Op + " " + shownPath(path.Path) + reason(path)
	case errors.As(err, &exit):
		return "the process ended with " + exit.ProcessState.String()
	case errors.As(err, &dns):
		return "lookup of " + Host(dns.Name) + " failed"
	case errors.As(err, &op) && op.Addr != nil:
		return op.Op + " " + op.Addr.String() + reason(op)
	case errors.As(err, &call):
		return call.Service() + " " + call.Operation() + " failed"
	}
	return typeName(err)
}

func shownPath(path string) string {
	if pathShape.MatchString(path) {
		return path
	}
	return NotShown
}

// reason returns the operating system's part of err.
func reason(err error) string {
	for ; err != nil; err = errors.Unwrap(err) {
		if strings.HasPrefix(fmt.Sprintf("%T", err), "syscall.") {
			return ": " + err.Error()
		}
	}
	return ""
}

// typeName returns the first type in err's chain that says more than that there is text.
func typeName(err error) string {
	for ; err != nil; err = errors.Unwrap(err) {
		name := strings.TrimPrefix(fmt.Sprintf("%T", err), "*")
		if !strings.HasPrefix(name, "fmt.") && !strings.HasPrefix(name, "errors.") {
			return name + " " + NotShown
		}
	}
	return NotShown
}
