// Package endpoint reads the names of clusters: endpoints, cluster IDs, Regions and dial addresses.
package endpoint

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/go-dsql/dsql/internal/redact"
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
const Want = "use <cluster ID>.dsql.<region>.on.aws, or the 26-character cluster ID with a region"

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

// Parse reads an endpoint as a caller wrote it.
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
		return Endpoint{}, fmt.Errorf("dsql: the cluster ID %q is in upper case: use %q", name, id)
	}
	return Endpoint{}, fmt.Errorf("dsql: the endpoint %s is neither a host name nor a cluster ID (26 of a-z and 0-9, this has %d characters): %s", redact.Host(name), len(name), Want)
}

// In completes e with the region that the caller set, which may be empty.
func (e Endpoint) In(region string) (Endpoint, error) {
	region = strings.TrimSpace(region)
	switch {
	case region != "" && !regionShape.MatchString(region):
		return Endpoint{}, fmt.Errorf("dsql: invalid region %s: use the name of an AWS Region, such as us-east-1", redact.Value(region))
	case e.Region != "" && region != "" && region != e.Region:
		return Endpoint{}, fmt.Errorf("dsql: the region %q contradicts the endpoint %q, which is in %q: use the endpoint's region or none", region, e.Host, e.Region)
	case e.Region != "":
		return e, nil
	case e.Host == "" && region == "":
		return Endpoint{}, fmt.Errorf("dsql: the cluster ID %q needs a region: set one, or use the endpoint %s.dsql.<region>.on.aws, or set AWS_REGION", e.ClusterID, e.ClusterID)
	case region == "":
		return Endpoint{}, fmt.Errorf("dsql: no region can be inferred from the host name %q: set the region", e.Host)
	}
	e.Region = region
	if e.Host == "" {
		e.Host = e.ClusterID + ".dsql." + region + ".on.aws"
	}
	return e, nil
}

// BareName removes what may surround a name (space, :5432, a final dot) and refuses what is not a
// name. Its errors show names only: anything else may hold a password or a token.
func BareName(given string) (string, error) {
	name := strings.TrimSpace(given)
	switch {
	case name == "":
		return "", fmt.Errorf("dsql: the endpoint is empty: %s", Want)
	case strings.Contains(name, "://"):
		return "", schemeError(name)
	case strings.ContainsAny(name, "@?#=;"):
		return "", fmt.Errorf("dsql: the endpoint %s has more in it than a host name: %s", redact.NotShown, Want)
	case strings.HasPrefix(name, "arn:"):
		return "", arnError(name)
	case strings.Contains(name, "/"):
		host, path, _ := strings.Cut(name, "/")
		return "", fmt.Errorf("dsql: the endpoint %s has a path, %s: use the host name alone; the database is always postgres", redact.Host(host), redact.Value("/"+path))
	}
	if isAddress(name) {
		return "", fmt.Errorf("dsql: the endpoint %q is an address, and tokens and certificates are for names: use the cluster's endpoint, and route TCP connections to the address with WithDialAddress", name)
	}
	if host, port, ok := strings.Cut(name, ":"); ok {
		if port != "5432" {
			shown := redact.NotShown
			if numberShape.MatchString(port) {
				shown = fmt.Sprintf("%q", port)
			}
			return "", fmt.Errorf("dsql: the endpoint %s has the port %s: DSQL listens on 5432 only; use the host name alone", redact.Host(host), shown)
		}
		name = host
	}
	return strings.TrimSuffix(name, "."), nil
}

// isAddress reports whether name is an IP address, with or without brackets and a port.
func isAddress(name string) bool {
	if _, err := netip.ParseAddrPort(name); err == nil {
		return true
	}
	_, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil
}

func parseHost(name string) (Endpoint, error) {
	host := strings.ToLower(name)
	labels := strings.Split(host, ".")
	if len(host) > 253 {
		return Endpoint{}, fmt.Errorf("dsql: the endpoint is %d characters long, and a host name has at most 253: %s", len(host), Want)
	}
	for _, label := range labels {
		if !labelShape.MatchString(label) {
			return Endpoint{}, fmt.Errorf("dsql: the endpoint %s is not a host name (%s is not a label of one): %s", redact.Host(name), redact.Value(label), Want)
		}
	}
	switch {
	case strings.HasSuffix(host, ".on.aws"):
		return parseAWSHost(host, labels)
	case strings.Contains(host, ".rds."):
		return Endpoint{}, fmt.Errorf("dsql: the endpoint %q is an Amazon RDS host, which takes other tokens: %s", host, Want)
	case strings.HasSuffix(host, ".vpce.amazonaws.com"):
		return Endpoint{}, fmt.Errorf("dsql: the endpoint %q is the name of a VPC endpoint: use the cluster's own endpoint, and route TCP connections to this name with WithDialAddress", host)
	case strings.HasSuffix(host, ".amazonaws.com"), strings.HasSuffix(host, ".api.aws"):
		return Endpoint{}, fmt.Errorf("dsql: the endpoint %q belongs to another AWS service or to DSQL's control plane: %s", host, Want)
	case numberShape.MatchString(labels[len(labels)-1]):
		return Endpoint{}, fmt.Errorf("dsql: the endpoint %s is not a host name (its last label is a number): %s", redact.Host(name), Want)
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
		return Endpoint{}, fmt.Errorf("dsql: the endpoint %q names %q as its region, which is not the name of an AWS Region", host, region)
	}
	return Endpoint{Host: host, ClusterID: id, Region: region}, nil
}

// schemeError refuses a URL, and shows no more of it than the scheme and the host.
func schemeError(given string) error {
	scheme, rest, _ := strings.Cut(given, "://")
	host, _, _ := strings.Cut(rest, "/")
	if redact.Value(scheme) == redact.NotShown || redact.Host(host) == redact.NotShown {
		return fmt.Errorf("dsql: the endpoint %s is a URL: use the host name alone, or pass the URL to ParseURL", redact.NotShown)
	}
	return fmt.Errorf("dsql: the endpoint %q is a URL: use the host name alone (%s), or pass the URL to ParseURL", scheme+"://"+host, host)
}

// arnError refuses an ARN, and names the endpoint if it is a cluster's:
// arn:aws:dsql:<region>:<account>:cluster/<id>.
func arnError(given string) error {
	parts := strings.Split(given, ":")
	if len(parts) == 6 && parts[2] == "dsql" && regionShape.MatchString(parts[3]) {
		if id, ok := strings.CutPrefix(parts[5], "cluster/"); ok && clusterIDShape.MatchString(id) {
			return fmt.Errorf("dsql: the endpoint is the ARN of a cluster: use %s.dsql.%s.on.aws", id, parts[3])
		}
	}
	return fmt.Errorf("dsql: the endpoint is an ARN: %s", Want)
}
