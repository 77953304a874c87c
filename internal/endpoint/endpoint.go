// Package endpoint reads the names of clusters: endpoints, cluster IDs, Regions and dial addresses.
package endpoint

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// Port is the one that DSQL listens on.
const Port = 5432

// Endpoint is a cluster's host name and what can be inferred from it. A bare cluster ID has no Host
// until its region is known; a host of another shape has no ClusterID.
type Endpoint struct {
	Host      string // lower case, no final dot, no port
	ClusterID string
	Region    string
}

// Want says what an endpoint must be.
const Want = "give <cluster ID>.dsql.<region>.on.aws, or the 26-character cluster ID with a region"

var (
	clusterIDShape = regexp.MustCompile(`^[a-z0-9]{26}$`)
	regionShape    = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`)
	serviceShape   = regexp.MustCompile(`^dsql(-[a-z0-9]+)?$`) // dsql-fnh4: a PrivateLink service
	labelShape     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	numberShape    = regexp.MustCompile(`^[0-9]+$`)
)

// IsClusterID reports whether s is a cluster ID: 26 of a-z and 0-9.
func IsClusterID(s string) bool { return clusterIDShape.MatchString(s) }

// IsRegion reports whether s has the shape of an AWS Region's name, such as us-east-1.
func IsRegion(s string) bool { return regionShape.MatchString(s) }

// Name returns the host name, or the cluster ID if there is none.
func (e Endpoint) Name() string {
	if e.Host == "" {
		return e.ClusterID
	}
	return e.Host
}

// Parse reads an endpoint as a caller gives it.
func Parse(given string) (Endpoint, error) {
	name, err := BareName(given)
	if err != nil {
		return Endpoint{}, err
	}
	if strings.Contains(name, ".") {
		return parseHost(name)
	}
	if clusterIDShape.MatchString(name) {
		return Endpoint{ClusterID: name}, nil
	}
	if id := strings.ToLower(name); clusterIDShape.MatchString(id) {
		return Endpoint{}, fmt.Errorf("dsql: the cluster ID %q is in upper case, AWS writes them in lower case: give %q", name, id)
	}
	return Endpoint{}, fmt.Errorf("dsql: the endpoint %q is neither a host name nor a cluster ID (26 of a-z and 0-9, this has %d characters): %s", name, len(name), Want)
}

// In completes e with the region that the caller gave, which may be empty.
func (e Endpoint) In(region string) (Endpoint, error) {
	switch {
	case region != "" && !regionShape.MatchString(region):
		return Endpoint{}, fmt.Errorf("dsql: the region %q is not an AWS Region's name: give one such as us-east-1", region)
	case e.Region != "" && region != "" && region != e.Region:
		return Endpoint{}, fmt.Errorf("dsql: the region %q contradicts the endpoint %q, which is in %q: give the endpoint's region or none", region, e.Host, e.Region)
	case e.Region != "":
		return e, nil
	case e.Host == "" && region == "":
		return Endpoint{}, fmt.Errorf("dsql: the cluster ID %q needs a region: give one, or the endpoint %s.dsql.<region>.on.aws, or set AWS_REGION", e.ClusterID, e.ClusterID)
	case region == "":
		return Endpoint{}, fmt.Errorf("dsql: the host name %q does not tell its region: give the region", e.Host)
	}
	e.Region = region
	if e.Host == "" {
		e.Host = e.ClusterID + ".dsql." + region + ".on.aws"
	}
	return e, nil
}

// BareName takes off what may stand around a name (space, :5432, a final dot,
// upper case) and refuses what is not a name.
func BareName(given string) (string, error) {
	name := strings.TrimSpace(given)
	switch {
	case name == "":
		return "", fmt.Errorf("dsql: the endpoint is empty: %s", Want)
	case strings.Contains(name, "://"):
		return "", schemeError(name)
	case strings.ContainsAny(name, "@?#="):
		// What stands around these may be a password or a token.
		return "", fmt.Errorf("dsql: the endpoint has more in it than a host name (not shown, it may be secret): %s", Want)
	case strings.HasPrefix(name, "arn:"):
		return "", arnError(name)
	case strings.Contains(name, "/"):
		return "", fmt.Errorf("dsql: the endpoint %q has a path: give the host name alone; the database is always postgres", name)
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return "", addressError(name)
	}
	if host, port, ok := strings.Cut(name, ":"); ok {
		if port != "5432" {
			return "", fmt.Errorf("dsql: the endpoint %q has port %q: DSQL listens on 5432 only; give the host name alone", name, port)
		}
		name = host
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "", addressError(name)
	}
	return strings.TrimSuffix(name, "."), nil
}

func parseHost(name string) (Endpoint, error) {
	host := strings.ToLower(name)
	labels := strings.Split(host, ".")
	if len(host) > 253 {
		return Endpoint{}, fmt.Errorf("dsql: the endpoint is %d characters long, a host name has at most 253: %s", len(host), Want)
	}
	for _, label := range labels {
		if !labelShape.MatchString(label) {
			return Endpoint{}, fmt.Errorf("dsql: the endpoint %q is not a host name (%q is not a label of one): %s", name, label, Want)
		}
	}
	switch {
	case strings.HasSuffix(host, ".on.aws"):
		return parseAWSHost(host, labels)
	case strings.Contains(host, ".rds."):
		return Endpoint{}, fmt.Errorf("dsql: the endpoint %q is an Amazon RDS host, which takes other tokens: %s", host, Want)
	case strings.HasSuffix(host, ".vpce.amazonaws.com"):
		return Endpoint{}, fmt.Errorf("dsql: the endpoint %q is a VPC endpoint's name: give the cluster's own endpoint, and send TCP to this name with WithDialAddress", host)
	case strings.HasSuffix(host, ".amazonaws.com"), strings.HasSuffix(host, ".api.aws"):
		return Endpoint{}, fmt.Errorf("dsql: the endpoint %q belongs to another AWS service or to DSQL's control plane: %s", host, Want)
	case numberShape.MatchString(labels[len(labels)-1]):
		return Endpoint{}, fmt.Errorf("dsql: the endpoint %q is not a host name (its last label is a number): %s", name, Want)
	}
	return Endpoint{Host: host}, nil
}

// parseAWSHost reads <id>.dsql.<region>.on.aws and the PrivateLink shape
// <id>.dsql-<service>.<region>.on.aws, and nothing else.
func parseAWSHost(host string, labels []string) (Endpoint, error) {
	if len(labels) != 5 || !serviceShape.MatchString(labels[1]) {
		return Endpoint{}, fmt.Errorf("dsql: the endpoint %q is not a DSQL cluster's: %s", host, Want)
	}
	id, region := labels[0], labels[2]
	if !clusterIDShape.MatchString(id) {
		return Endpoint{}, fmt.Errorf("dsql: the endpoint %q begins with %q, which is not a cluster ID (26 of a-z and 0-9, this has %d characters)", host, id, len(id))
	}
	if !regionShape.MatchString(region) {
		return Endpoint{}, fmt.Errorf("dsql: the endpoint %q names %q as its region, which is not an AWS Region's name", host, region)
	}
	return Endpoint{Host: host, ClusterID: id, Region: region}, nil
}

func addressError(given string) error {
	return fmt.Errorf("dsql: the endpoint %q is an address: tokens and certificates are for names; give the cluster's endpoint, and send TCP to the address with WithDialAddress", given)
}

func schemeError(given string) error {
	u, err := url.Parse(given)
	if err != nil || strings.ContainsAny(given, "@?#") {
		scheme, _, _ := strings.Cut(given, "://")
		return fmt.Errorf("dsql: the endpoint is a %s:// URL (not shown, it may hold a secret): give the host name alone, or the URL to ParseURL", scheme)
	}
	return fmt.Errorf("dsql: the endpoint %q is a URL: give the host name alone (%s), or the URL to ParseURL", given, u.Host)
}

// arnError tells the endpoint when a cluster's ARN was given:
// arn:aws:dsql:<region>:<account>:cluster/<id>.
func arnError(given string) error {
	parts := strings.Split(given, ":")
	if len(parts) == 6 && parts[2] == "dsql" {
		if id, ok := strings.CutPrefix(parts[5], "cluster/"); ok {
			return fmt.Errorf("dsql: the endpoint %q is an ARN: give %s.dsql.%s.on.aws", given, id, parts[3])
		}
	}
	return fmt.Errorf("dsql: the endpoint %q is an ARN: %s", given, Want)
}
