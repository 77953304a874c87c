package dsqltest

import (
	"fmt"
	"regexp"
	"strings"
)

const (
	adminRole     = "admin"
	defaultRegion = "us-east-1"
)

type config struct {
	region string
	roles  []string // besides admin
	quota  quota
}

// Option sets one thing of a cluster that is about to start.
type Option func(*config) error

func newConfig(opts []Option) (config, error) {
	cfg := config{region: defaultRegion}
	for i, opt := range opts {
		if opt == nil {
			return config{}, fmt.Errorf("dsqltest: option %d is nil", i+1)
		}
		if err := opt(&cfg); err != nil {
			return config{}, err
		}
	}
	return cfg, nil
}

var regionShape = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`)

// WithRegion puts the cluster into an AWS Region, which shows in its endpoint
// and in the tokens that it takes. The default is us-east-1.
func WithRegion(region string) Option {
	return func(cfg *config) error {
		if !regionShape.MatchString(region) {
			return fmt.Errorf("dsqltest: the region %q is not an AWS Region's name: give one such as us-east-1", region)
		}
		cfg.region = region
		return nil
	}
}

// WithRole makes a role besides admin, as
//
//	CREATE ROLE name WITH LOGIN
//	AWS IAM GRANT name TO '<the cluster's own principal>'
//
// would. Give the option once for each role.
func WithRole(name string) Option {
	return func(cfg *config) error {
		switch {
		case name == "":
			return fmt.Errorf("dsqltest: WithRole was given an empty name")
		case name == adminRole:
			return fmt.Errorf("dsqltest: the role admin is always there: leave WithRole out")
		case name == "postgres", name == "dsqltest", strings.HasPrefix(name, "pg_"):
			return fmt.Errorf("dsqltest: the role %q is not free: give another name", name)
		case len(name) > 63, strings.ContainsRune(name, 0):
			return fmt.Errorf("dsqltest: the role %q is not a name: PostgreSQL's have at most 63 bytes and no NUL", name)
		}
		cfg.roles = append(cfg.roles, name)
		return nil
	}
}
