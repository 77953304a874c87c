package seal

import (
	"net"
	"time"
)

// TCP detects a server that vanishes silently, also where a statement's context has no deadline.
// While nothing is sent, the first probe goes out after keepAliveIdle, and the connection
// ends when keepAliveCount probes, keepAliveInterval apart, have no answer: after 30 seconds, where
// Go's default takes two and a half minutes and Linux's two hours. Data that is not acknowledged
// ends it after userTimeout, where Linux resends for a quarter of an hour. 30 seconds are more than
// a lost packet, a change of routes or a live migration of a virtual machine takes.
const (
	keepAliveIdle     = 15 * time.Second
	keepAliveInterval = 5 * time.Second
	keepAliveCount    = 3
	userTimeout       = 30 * time.Second
)

// NewDialer returns the default dialer, which races IPv6 and IPv4.
func NewDialer() *net.Dialer {
	return &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{
			Enable:   true,
			Idle:     keepAliveIdle,
			Interval: keepAliveInterval,
			Count:    keepAliveCount,
		},
		Control: setUserTimeout,
	}
}
