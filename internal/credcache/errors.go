package credcache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/go-dsql/dsql/internal/explain"
	"github.com/go-dsql/dsql/internal/redact"
)

// Failure returns the error of credentials that did not come within timeout, because of err.
func Failure(err error, timeout time.Duration) error {
	switch {
	case errors.Is(err, context.Canceled):
		return redact.Wrap("dsql: getting AWS credentials was interrupted", err)
	case errors.Is(err, context.DeadlineExceeded):
		return explain.Advise(explain.SlowCredentials, redact.Wrap(fmt.Sprintf("dsql: getting AWS credentials timed out after at most %v", timeout), err))
	}
	return explain.Advise(explain.NoCredentials, redact.Wrap("dsql: no AWS credentials", err))
}

// check refuses credentials that cannot open a connection.
func check(creds aws.Credentials) error {
	switch {
	case !creds.HasKeys():
		return explain.Advise(explain.NoCredentials, fmt.Errorf("dsql: no AWS credentials: the provider %q returned empty keys", creds.Source))
	case expiresSoon(creds):
		return explain.Advise(explain.ExpiredCredentials, fmt.Errorf("dsql: the AWS credentials of %q expire at %s, less than %v from now, and must be renewed first",
			creds.Source, creds.Expires.UTC().Format(time.RFC3339), minLife))
	}
	return nil
}
