package dsqltest

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// databaseName is the one database of a cluster, as clients call it.
const databaseName = "postgres"

// open finds the cluster that a client wants, and does there what it came for.
func (l *listener) open(client *tls.Conn, packet startupPacket) {
	var s startup
	if packet.code != cancelRequest {
		var refusal *Refusal
		if s, refusal = parseStartup(packet); refusal != nil {
			l.refuse(client, refusal)
			return
		}
	}
	c, host, refusal := l.route(client.ConnectionState().ServerName, s.clusterID)
	if refusal != nil {
		refusal.send(client)
		return
	}
	if !c.enter() {
		return
	}
	defer c.sessions.Done()
	if packet.code == cancelRequest {
		c.cancelQuery(packet)
		return
	}
	c.serve(client, s, host)
}

// refuse is for what goes wrong before the cluster is certain.
func (l *listener) refuse(client *tls.Conn, refusal *Refusal) {
	if c, _, lost := l.route(client.ConnectionState().ServerName, ""); lost == nil {
		c.note(refusal)
	}
	if refusal.Message != "" {
		refusal.send(client)
	}
}

// route finds the cluster by the name that TLS was begun with, else by its ID in
// the startup options. host is the name that its tokens are signed for.
func (l *listener) route(sni, clusterID string) (c *Cluster, host string, refusal *Refusal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if name, ok := parseName(sni); ok {
		if c, ok := l.clusters[name.id]; ok && c.region == name.region {
			return c, name.host, nil
		}
	}
	if c, ok := l.clusters[clusterID]; ok {
		return c, c.Endpoint(), nil
	}
	if sni == "" && clusterID == "" {
		return nil, "", &Refusal{Code: connectionFailure, Message: "unable to accept connection, sni was not received"}
	}
	return nil, "", &Refusal{Code: connectionFailure, Message: "unable to accept connection, invalid sni"}
}

// serve lets a client in, or tells it why not, and then carries its session.
func (c *Cluster) serve(client *tls.Conn, s startup, host string) {
	defer context.AfterFunc(c.ctx, func() { client.NetConn().Close() })()
	if !c.faults.pass(c.ctx) {
		return
	}
	tooFast := c.arrive()
	refusal, err := c.authenticate(client, s, host)
	if err != nil {
		return
	}
	if refusal == nil {
		refusal = c.faults.connect()
	}
	if refusal == nil {
		refusal = tooFast
	}
	if refusal == nil {
		refusal = c.hasRoom()
	}
	var engine net.Conn
	if refusal == nil {
		engine, refusal = c.connect(s)
	}
	if refusal != nil {
		refusal.User = s.parameters["user"]
		c.note(refusal) // before the client knows, who may look at once
		refusal.send(client)
		return
	}
	defer context.AfterFunc(c.ctx, func() { engine.Close() })()
	_ = client.SetDeadline(time.Time{})
	c.count(func(s *Stats) { s.Connects++ })
	c.converse(client, engine)
}

// connect opens the cluster's database for a client that was let in. The
// engine's answer to the startup message, welcome or error, is left to the
// client.
func (c *Cluster) connect(s startup) (net.Conn, *Refusal) {
	s.parameters["database"] = c.database
	s.parameters["lock_timeout"] = lockTimeout
	message := pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: s.parameters}
	packet, err := message.Encode(nil)
	if err != nil {
		return nil, unreachable(err)
	}
	conn, err := c.engine.Dial(c.ctx)
	if err != nil {
		return nil, unreachable(err)
	}
	if _, err := conn.Write(packet); err != nil {
		conn.Close()
		return nil, unreachable(err)
	}
	return conn, nil
}

func unreachable(err error) *Refusal {
	return &Refusal{
		Reason:  "engine: " + err.Error(),
		Code:    internalError,
		Message: "dsqltest: the PostgreSQL behind the cluster cannot be reached",
	}
}
