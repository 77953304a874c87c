package dsql

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// clusterOption is the startup option that names the cluster where TLS does not:
// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/privatelink-managing-clusters.html
const clusterOption = "amzn-cluster-id"

// parseDialAddress reads a host, a host:port or an IP address, and gives it back
// with a port.
func parseDialAddress(given string) (string, error) {
	name := strings.TrimSpace(given)
	bare := name
	if strings.HasPrefix(name, "[") && strings.HasSuffix(name, "]") {
		bare = name[1 : len(name)-1]
	}
	if ip, err := netip.ParseAddr(bare); err == nil {
		return netip.AddrPortFrom(ip, port).String(), nil
	}
	host, dialPort := name, strconv.Itoa(port)
	if strings.Contains(name, ":") {
		var err error
		if host, dialPort, err = net.SplitHostPort(name); err != nil {
			return "", dialAddressError(given)
		}
	}
	n, err := strconv.ParseUint(dialPort, 10, 16)
	if err != nil || n == 0 || host == "" || strings.ContainsAny(host, "@?#=/, \t\n\x00") {
		return "", dialAddressError(given)
	}
	return net.JoinHostPort(host, dialPort), nil
}

func dialAddressError(given string) error {
	const want = "give a host name or an IP address, with or without a port"
	if strings.ContainsAny(given, "@?#=") {
		return errors.New("dsql: the dial address has more in it than a host and a port (not shown, it may be secret): " + want)
	}
	return fmt.Errorf("dsql: the dial address %q is not a host and a port: %s", given, want)
}

// isVPCEndpoint reports whether a host:port is a VPC endpoint's own name, which
// tells nothing of the cluster.
func isVPCEndpoint(address string) bool {
	return strings.Contains(strings.ToLower(address), ".vpce.amazonaws.com")
}

// dialAddress dials address whatever is asked for.
func dialAddress(address string) pgconn.DialFunc {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
}
