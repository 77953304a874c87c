package proxy

import (
	"crypto/tls"
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
	if !p.beginConn() {
		return
	}
	defer p.conns.Done()
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

// route finds a cluster by the SNI hostname, or else by the ID in the startup options. host is
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
