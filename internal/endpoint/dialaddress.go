package endpoint

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// ParseDialAddress reads a host, a host:port or an IP address, and gives it back
// with a port.
func ParseDialAddress(given string) (string, error) {
	name := strings.TrimSpace(given)
	bare := name
	if strings.HasPrefix(name, "[") && strings.HasSuffix(name, "]") {
		bare = name[1 : len(name)-1]
	}
	if ip, err := netip.ParseAddr(bare); err == nil {
		return netip.AddrPortFrom(ip, Port).String(), nil
	}
	host, dialPort := name, strconv.Itoa(Port)
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

// IsVPCEndpoint reports whether a host:port is a VPC endpoint's own name, which
// tells nothing of the cluster.
func IsVPCEndpoint(address string) bool {
	return strings.Contains(strings.ToLower(address), ".vpce.amazonaws.com")
}
