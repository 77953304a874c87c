package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/redact"
)

// identityTimeout bounds the lookup of the principal of the credentials, which is informational.
const identityTimeout = 3 * time.Second

// loadAWS puts the AWS configuration into cfg, which a profile may name.
func loadAWS(ctx context.Context, cfg *dsql.Config) error {
	opts := []func(*config.LoadOptions) error{
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(30 * time.Second)),
	}
	if cfg.Profile != "" {
		opts = append(opts, config.WithSharedConfigProfile(cfg.Profile))
	}
	loaded, err := config.LoadDefaultConfig(ctx, opts...)
	var absent config.SharedConfigProfileNotExistError
	switch {
	case errors.As(err, &absent):
		return redact.Wrap(fmt.Sprintf("dsql: loading the AWS configuration: there is no profile %s", redact.Value(absent.Profile)), err)
	case err != nil: // its text may quote a file that has keys in it
		return redact.Wrap("dsql: loading the AWS configuration failed", err)
	}
	cfg.AWSConfig, cfg.Profile = &loaded, ""
	return nil
}

// identity is what AWS STS says of credentials.
type identity struct {
	ARN, Account string
	now          time.Time // by AWS's clock; zero: not known
}

// whoAmI asks STS. The time is known when STS answered, even if it refused.
func whoAmI(ctx context.Context, cfg aws.Config, region string) (identity, error) {
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	client := sts.NewFromConfig(cfg, func(o *sts.Options) { o.Region, o.RetryMaxAttempts = region, 2 })
	out, err := client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		var id identity
		var answered *awshttp.ResponseError
		if errors.As(err, &answered) && answered.HTTPResponse() != nil {
			id.now, _ = http.ParseTime(answered.HTTPResponse().Header.Get("Date"))
		}
		return id, err
	}
	id := identity{ARN: aws.ToString(out.Arn), Account: aws.ToString(out.Account)}
	id.now, _ = awsmiddleware.GetServerTime(out.ResultMetadata)
	return id, nil
}

// grantee returns the ARN that AWS IAM GRANT takes: for the session of a role the role's own.
func grantee(arn string) string {
	parts := strings.Split(arn, ":")
	if len(parts) != 6 || parts[2] != "sts" {
		return arn
	}
	session := strings.Split(parts[5], "/")
	if len(session) < 2 || session[0] != "assumed-role" {
		return arn
	}
	return fmt.Sprintf("%s:%s:iam::%s:role/%s", parts[0], parts[1], parts[4], session[1])
}
