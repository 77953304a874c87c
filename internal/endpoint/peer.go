package endpoint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// ParsePeer returns the endpoint of a cluster in another Region. Nothing but its name and region says
// which Region that is.
func ParsePeer(name, region string) (Endpoint, error) {
	e, err := Parse(name)
	if err == nil && e.Host == "" && strings.TrimSpace(region) == "" {
		err = fmt.Errorf("dsql: the cluster ID %q of a peer needs a region: set it, or use %s.dsql.<region>.on.aws", e.ClusterID, e.ClusterID)
	}
	if err != nil {
		return e, err
	}
	return e.In(region)
}

// NearestFirst moves the endpoints in a Region before the others.
func NearestFirst(endpoints []Endpoint, region string) {
	distance := func(e Endpoint) int {
		if e.Region == region {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(endpoints, func(a, b Endpoint) int { return cmp.Compare(distance(a), distance(b)) })
}
