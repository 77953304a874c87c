package proxy

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// databaseName is a cluster's only database, as clients see it.
const databaseName = "postgres"

// serve accepts or refuses a client and runs its session.
func (p *Proxy) serve(client *tls.Conn, s startup, host string) {
	defer context.AfterFunc(p.ctx, func() { client.NetConn().Close() })()
	if !p.Faults.waitPause(p.ctx) {
		return
	}
	overRate := p.quota.checkRate()
	p.Faults.waitLatency(p.ctx)
	refusal, err := p.authenticate(client, s, host)
	if err != nil {
		return
	}
	p.Faults.waitLatency(p.ctx)
	if refusal == nil {
		refusal = p.Faults.checkConnect()
	}
	if refusal == nil {
		refusal = overRate
	}
	if refusal == nil {
		refusal = p.quota.checkOpen(len(p.openSessions()))
	}
	var server net.Conn
	if refusal == nil {
		server, refusal = p.connectServer(s)
	}
	if refusal != nil {
		refusal.User = s.parameters["user"]
		p.recordRefusal(refusal) // first: the client may ask for it as soon as it is refused
		refusal.send(client)
		return
	}
	defer context.AfterFunc(p.ctx, func() { server.Close() })()
	_ = client.SetDeadline(time.Time{})
	p.updateStats(func(s *Stats) { s.Connects++ })
	p.runSession(client, server, s.parameters["user"])
}

// connectServer opens the cluster's database for an accepted client. PostgreSQL's reply to the
// startup message, success or error, is left for the client.
func (p *Proxy) connectServer(s startup) (net.Conn, *Refusal) {
	s.parameters["database"] = p.cfg.Database
	s.parameters["lock_timeout"] = lockTimeout
	message := pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: s.parameters}
	conn, err := p.cfg.Server.Dial(p.ctx)
	if err != nil {
		return nil, unreachable(err)
	}
	if err := writeMessage(conn, &message); err != nil {
		conn.Close()
		return nil, unreachable(err)
	}
	return conn, nil
}

func unreachable(err error) *Refusal {
	return &Refusal{
		Reason:  "PostgreSQL: " + err.Error(),
		Code:    internalError,
		Message: "dsqltest: the PostgreSQL server behind the cluster cannot be reached",
	}
}
