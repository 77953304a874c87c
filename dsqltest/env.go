package dsqltest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/go-dsql/dsql"
)

// Config returns the same as [Cluster.Options], and the endpoint and the Region, as a
// configuration.
func (c *Cluster) Config() dsql.Config {
	return dsql.Config{
		Endpoint: c.Endpoint(),
		Region:   c.Region(),
		RootCAs:  c.roots(),
		DialFunc: c.dial,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return c.credentials(), nil
		}),
	}
}

// URL returns a connection URL for the role admin, with the address to dial and the file of the
// certificate authority. dsql.ParseURL reads it, and so does libpq. It holds no password: a program
// that also has the environment [Cluster.Env] can sign the token.
func (c *Cluster) URL() string {
	host, port, _ := net.SplitHostPort(c.Address())
	u := url.URL{Scheme: "postgres", User: url.User(adminRole), Host: c.Endpoint(), Path: "/postgres"}
	query := url.Values{
		"hostaddr":    {host},
		"port":        {port},
		"sslmode":     {"verify-full"},
		"sslrootcert": {c.caFile},
	}
	u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // libpq does not decode a +
	return u.String()
}

// Env returns environment variables, each NAME=value, for a program that is to use the cluster, in
// any language. Append them to its environment:
//
//		cmd.Env = append(os.Environ(), cluster.Env()...)
//
//	  - AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and others are what AWS's SDKs read. They
//	    hide the credentials and profiles of the machine from the program.
//	  - PGHOST, PGHOSTADDR, PGPORT, PGDATABASE, PGUSER, PGSSLMODE and PGSSLROOTCERT are libpq's. There
//	    is no PGPASSWORD: it is the token, which the program signs.
//	  - DSQL_ENDPOINT and DSQL_REGION name the cluster.
//
// The files that they name are removed with the cluster, and only the user of this process and
// PostgreSQL's can read them.
func (c *Cluster) Env() []string {
	host, port, _ := net.SplitHostPort(c.Address())
	credentials := c.credentials()
	return []string{
		"AWS_ACCESS_KEY_ID=" + credentials.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY=" + credentials.SecretAccessKey,
		"AWS_SESSION_TOKEN=",
		"AWS_REGION=" + c.Region(),
		"AWS_DEFAULT_REGION=" + c.Region(),
		"AWS_PROFILE=default",
		"AWS_CONFIG_FILE=" + c.awsFile,
		"AWS_SHARED_CREDENTIALS_FILE=" + c.awsFile,
		"DSQL_ENDPOINT=" + c.Endpoint(),
		"DSQL_REGION=" + c.Region(),
		"PGHOST=" + c.Endpoint(),
		"PGHOSTADDR=" + host,
		"PGPORT=" + port,
		"PGDATABASE=postgres",
		"PGUSER=" + adminRole,
		"PGSSLMODE=verify-full",
		"PGSSLROOTCERT=" + c.caFile,
	}
}

// writeFiles writes the files that URL and Env name. They are next to PostgreSQL's, so that they
// are removed even if the process is killed.
func (c *Cluster) writeFiles() (err error) {
	if c.caFile, err = c.server.WriteFile(c.proxy.Endpoint()+".pem", c.CertPEM()); err != nil {
		return err
	}
	credentials := c.credentials()
	// The SDKs fail on AWS_PROFILE if there is no such profile, whatever else is set.
	profile := fmt.Sprintf("[default]\nregion = %s\naws_access_key_id = %s\naws_secret_access_key = %s\n",
		c.Region(), credentials.AccessKeyID, credentials.SecretAccessKey)
	c.awsFile, err = c.server.WriteFile(c.proxy.Endpoint()+".aws", []byte(profile))
	return err
}

func (c *Cluster) removeFiles() error {
	var errs []error
	for _, path := range []string{c.caFile, c.awsFile} {
		if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
