package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
)

// hostname is a name that clients may reach a cluster by: <id>.dsql.<region>.on.aws, or
// PrivateLink's <id>.dsql-<service>.<region>.on.aws.
type hostname struct {
	host   string // in lower case
	id     string
	domain string // what follows the ID
	region string
}

func parseHostname(host string) (hostname, bool) {
	host = strings.ToLower(host)
	labels := strings.Split(host, ".")
	if len(labels) != 5 || labels[3] != "on" || labels[4] != "aws" {
		return hostname{}, false
	}
	if labels[1] != "dsql" && !strings.HasPrefix(labels[1], "dsql-") {
		return hostname{}, false
	}
	return hostname{host: host, id: labels[0], domain: strings.Join(labels[1:], "."), region: labels[2]}, true
}

// admit holds or resets a connection that has sent its ClientHello, where its endpoint's faults say
// so. It changes no configuration.
func (l *listener) admit(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	p, _, refusal := l.route(hello.ServerName, "")
	if refusal != nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(p.ctx, l.timeout)
	defer cancel()
	p.Faults.waitLatency(ctx)
	if p.Faults.admit(ctx) {
		return nil, nil
	}
	reset(hello.Conn)
	return nil, errors.New("the endpoint is down")
}

// reset closes a connection as a host does that has no such connection.
func reset(conn net.Conn) {
	if peeked, ok := conn.(peekedConn); ok {
		conn = peeked.Conn
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}

// handleStartup routes a connection to its cluster, which then serves it.
func (l *listener) handleStartup(client *tls.Conn, packet startupPacket) {
	var s startup
	if packet.code != cancelRequest {
		var refusal *Refusal
		if s, refusal = parseStartup(packet); refusal != nil {
			l.refuse(client, refusal)
			return
		}
	}
	p, host, refusal := l.route(client.ConnectionState().ServerName, s.clusterID)
	if refusal != nil {
		refusal.send(client)
		return
	}
	if !p.beginConn(client) {
		reset(client.NetConn())
		return
	}
	defer p.endConn(client)
	if packet.code == cancelRequest {
		p.forwardCancel(packet)
		return
	}
	p.serve(client, s, host)
}

// refuse answers a client whose startup message cannot be read. The cluster that its SNI hostname
// names records the refusal.
func (l *listener) refuse(client *tls.Conn, refusal *Refusal) {
	if p, _, unknown := l.route(client.ConnectionState().ServerName, ""); unknown == nil {
		p.recordRefusal(refusal)
	}
	if refusal.Message != "" {
		refusal.send(client)
	}
}

// route finds a cluster by the SNI hostname, otherwise by the ID in the startup options. host is
// the name that tokens must be signed for.
func (l *listener) route(sni, clusterID string) (p *Proxy, host string, refusal *Refusal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if name, ok := parseHostname(sni); ok {
		if p, ok := l.proxies[name.id]; ok && p.cfg.Region == name.region {
			return p, name.host, nil
		}
	}
	if p, ok := l.proxies[clusterID]; ok {
		return p, p.Endpoint(), nil
	}
	if sni == "" && clusterID == "" {
		return nil, "", &Refusal{Code: connectionFailure, Message: "unable to accept connection, sni was not received"}
	}
	return nil, "", &Refusal{Code: connectionFailure, Message: "unable to accept connection, invalid sni"}
}
