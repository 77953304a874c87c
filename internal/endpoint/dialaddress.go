package endpoint

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/go-dsql/dsql/internal/redact"
)

// ParseDialAddress reads a host, a host:port or an IP address, and returns it with a port.
func ParseDialAddress(given string) (string, error) {
	name := strings.TrimSpace(given)
	bare := name
	if strings.HasPrefix(name, "[") && strings.HasSuffix(name, "]") {
		bare = name[1 : len(name)-1]
	}
	if ip, err := netip.ParseAddr(bare); err == nil && !strings.ContainsAny(bare, notInHosts) {
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
	if err != nil || n == 0 || host == "" || strings.ContainsAny(host, notInHosts) {
		return "", dialAddressError(given)
	}
	if _, err := netip.ParseAddr(host); err != nil && strings.Contains(host, ":") {
		return "", dialAddressError(given)
	}
	return net.JoinHostPort(host, dialPort), nil
}

// notInHosts are characters that no host has, nor the zone of an IPv6 address.
const notInHosts = "[]@?#=;/, \t\r\n\x00"

func dialAddressError(given string) error {
	return fmt.Errorf("dsql: the dial address %s must be a host name or an IP address, with or without a port", redact.Host(given))
}

// ParseHostAddr returns the dial address of a URL's hostaddr and port, either of which may be
// empty. Without hostaddr it is empty.
func ParseHostAddr(hostaddr, port string) (string, error) {
	n, err := strconv.ParseUint(cmp.Or(port, strconv.Itoa(Port)), 10, 16)
	if err != nil || n == 0 {
		return "", fmt.Errorf("dsql: the URL's port is %s: must be a number from 1 to 65535", redact.Value(port))
	}
	if hostaddr == "" {
		if n != Port {
			return "", fmt.Errorf("dsql: the URL's port is %d and must be 5432, unless hostaddr names another address to dial", n)
		}
		return "", nil
	}
	ip, err := netip.ParseAddr(hostaddr)
	if err != nil {
		return "", fmt.Errorf("dsql: the URL's hostaddr is %s: must be an IP address", redact.Host(hostaddr))
	}
	return netip.AddrPortFrom(ip, uint16(n)).String(), nil
}

// IsVPCEndpoint reports whether a host:port is a VPC endpoint's own name, which identifies no cluster.
func IsVPCEndpoint(address string) bool {
	return strings.Contains(strings.ToLower(address), ".vpce.amazonaws.com")
}
