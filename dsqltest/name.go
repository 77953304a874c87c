package dsqltest

import "strings"

// clusterName is a host name that a cluster may be reached by:
// <id>.dsql.<region>.on.aws, or PrivateLink's <id>.dsql-<service>.<region>.on.aws.
type clusterName struct {
	host   string // all of it, in lower case
	id     string
	domain string // what follows the id
	region string
}

func parseName(host string) (clusterName, bool) {
	host = strings.ToLower(host)
	labels := strings.Split(host, ".")
	if len(labels) != 5 || labels[3] != "on" || labels[4] != "aws" {
		return clusterName{}, false
	}
	if labels[1] != "dsql" && !strings.HasPrefix(labels[1], "dsql-") {
		return clusterName{}, false
	}
	return clusterName{host: host, id: labels[0], domain: strings.Join(labels[1:], "."), region: labels[2]}, true
}
