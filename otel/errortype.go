package otel

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/occ"
)

// errorType returns the cause of an error as one of few values: a word, or the SQLSTATE. The text of
// the error is not in it, which may quote the caller's data.
func errorType(err error) string {
	var state interface{ SQLState() string }
	var certificate *tls.CertificateVerificationError
	var dns *net.DNSError
	var network net.Error
	var number syscall.Errno
	switch {
	case errors.As(err, new(*occ.CommitUnknownError)):
		return "commit_unknown"
	case dsql.IsAccessDenied(err):
		return "access_denied"
	case dsql.IsConnectLimit(err):
		return "connect_limit"
	case errors.Is(err, errPanicked):
		return "panic"
	case errors.As(err, &state) && state.SQLState() != "":
		return state.SQLState()
	case errors.As(err, &certificate):
		return "certificate"
	case errors.As(err, &dns):
		return "dns"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "timeout"
	case errors.As(err, &network), errors.As(err, &number), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return "network"
	}
	return "_OTHER"
}
