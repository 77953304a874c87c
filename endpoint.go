package dsql

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// endpoint is a cluster's host name and what it tells. A bare cluster ID has no
// host until its region is known; a host of another shape has no clusterID.
type endpoint struct {
	host      string // lower case, no final dot, no port
	clusterID string
	region    string
}

const wantEndpoint = "give <cluster ID>.dsql.<region>.on.aws, or the 26-character cluster ID with a region"

var (
	clusterIDShape = regexp.MustCompile(`^[a-z0-9]{26}$`)
	regionShape    = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`)
	serviceShape   = regexp.MustCompile(`^dsql(-[a-z0-9]+)?$`) // dsql-fnh4: a PrivateLink service
	labelShape     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	numberShape    = regexp.MustCompile(`^[0-9]+$`)
)

// name is the host name or the cluster ID.
func (e endpoint) name() string {
	if e.host == "" {
		return e.clusterID
	}
	return e.host
}

// parseEndpoint reads an endpoint string.
func parseEndpoint(given string) (endpoint, error) {
	name, err := bareName(given)
	if err != nil {
		return endpoint{}, err
	}
	if strings.Contains(name, ".") {
		return parseHost(name)
	}
	if clusterIDShape.MatchString(name) {
		return endpoint{clusterID: name}, nil
	}
	if id := strings.ToLower(name); clusterIDShape.MatchString(id) {
		return endpoint{}, fmt.Errorf("dsql: the cluster ID %q is in upper case, AWS writes them in lower case: give %q", name, id)
	}
	return endpoint{}, fmt.Errorf("dsql: the endpoint %q is neither a host name nor a cluster ID (26 of a-z and 0-9, this has %d characters): %s", name, len(name), wantEndpoint)
}

// in completes e with the region that the caller gave, which may be empty.
func (e endpoint) in(region string) (endpoint, error) {
	switch {
	case region != "" && !regionShape.MatchString(region):
		return endpoint{}, fmt.Errorf("dsql: the region %q is not an AWS Region's name: give one such as us-east-1", region)
	case e.region != "" && region != "" && region != e.region:
		return endpoint{}, fmt.Errorf("dsql: the region %q contradicts the endpoint %q, which is in %q: give the endpoint's region or none", region, e.host, e.region)
	case e.region != "":
		return e, nil
	case e.host == "" && region == "":
		return endpoint{}, fmt.Errorf("dsql: the cluster ID %q needs a region: give one, or the endpoint %s.dsql.<region>.on.aws, or set AWS_REGION", e.clusterID, e.clusterID)
	case region == "":
		return endpoint{}, fmt.Errorf("dsql: the host name %q does not tell its region: give the region", e.host)
	}
	e.region = region
	if e.host == "" {
		e.host = e.clusterID + ".dsql." + region + ".on.aws"
	}
	return e, nil
}

// bareName takes off what may stand around a name (space, :5432, a final dot,
// upper case) and refuses what is not a name.
func bareName(given string) (string, error) {
	name := strings.TrimSpace(given)
	switch {
	case name == "":
		return "", fmt.Errorf("dsql: the endpoint is empty: %s", wantEndpoint)
	case strings.Contains(name, "://"):
		return "", schemeError(name)
	case strings.ContainsAny(name, "@?#="):
		// What stands around these may be a password or a token.
		return "", fmt.Errorf("dsql: the endpoint has more in it than a host name (not shown, it may be secret): %s", wantEndpoint)
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

func parseHost(name string) (endpoint, error) {
	host := strings.ToLower(name)
	labels := strings.Split(host, ".")
	if len(host) > 253 {
		return endpoint{}, fmt.Errorf("dsql: the endpoint is %d characters long, a host name has at most 253: %s", len(host), wantEndpoint)
	}
	for _, label := range labels {
		if !labelShape.MatchString(label) {
			return endpoint{}, fmt.Errorf("dsql: the endpoint %q is not a host name (%q is not a label of one): %s", name, label, wantEndpoint)
		}
	}
	switch {
	case strings.HasSuffix(host, ".on.aws"):
		return parseAWSHost(host, labels)
	case strings.Contains(host, ".rds."):
		return endpoint{}, fmt.Errorf("dsql: the endpoint %q is an Amazon RDS host, which takes other tokens: %s", host, wantEndpoint)
	case strings.HasSuffix(host, ".vpce.amazonaws.com"):
		return endpoint{}, fmt.Errorf("dsql: the endpoint %q is a VPC endpoint's name: give the cluster's own endpoint, and send TCP to this name with WithDialAddress", host)
	case strings.HasSuffix(host, ".amazonaws.com"), strings.HasSuffix(host, ".api.aws"):
		return endpoint{}, fmt.Errorf("dsql: the endpoint %q belongs to another AWS service or to DSQL's control plane: %s", host, wantEndpoint)
	case numberShape.MatchString(labels[len(labels)-1]):
		return endpoint{}, fmt.Errorf("dsql: the endpoint %q is not a host name (its last label is a number): %s", name, wantEndpoint)
	}
	return endpoint{host: host}, nil
}

// parseAWSHost reads <id>.dsql.<region>.on.aws and the PrivateLink shape
// <id>.dsql-<service>.<region>.on.aws, and nothing else.
func parseAWSHost(host string, labels []string) (endpoint, error) {
	if len(labels) != 5 || !serviceShape.MatchString(labels[1]) {
		return endpoint{}, fmt.Errorf("dsql: the endpoint %q is not a DSQL cluster's: %s", host, wantEndpoint)
	}
	id, region := labels[0], labels[2]
	if !clusterIDShape.MatchString(id) {
		return endpoint{}, fmt.Errorf("dsql: the endpoint %q begins with %q, which is not a cluster ID (26 of a-z and 0-9, this has %d characters)", host, id, len(id))
	}
	if !regionShape.MatchString(region) {
		return endpoint{}, fmt.Errorf("dsql: the endpoint %q names %q as its region, which is not an AWS Region's name", host, region)
	}
	return endpoint{host: host, clusterID: id, region: region}, nil
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
	return fmt.Errorf("dsql: the endpoint %q is an ARN: %s", given, wantEndpoint)
}
