package credcache

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/go-dsql/dsql/internal/redact"
)

// LoadConfig loads the default configuration. Its HTTP client ends calls that hang: the SDK's own
// cache would wait for them forever.
func LoadConfig(ctx context.Context, profile string) (aws.Config, error) {
	opts := []func(*config.LoadOptions) error{
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(CallTimeout)),
	}
	if profile != "" {
		opts = append(opts, config.WithSharedConfigProfile(profile))
	}
	cfg, err := config.LoadDefaultConfig(ctx, opts...)
	var absent config.SharedConfigProfileNotExistError
	switch {
	case errors.As(err, &absent):
		return aws.Config{}, redact.Wrap(fmt.Sprintf("dsql: loading the AWS configuration: there is no profile %s", redact.Value(absent.Profile)), err)
	case err != nil:
		return aws.Config{}, redact.Wrap("dsql: loading the AWS configuration failed", err)
	}
	return cfg, nil
}
