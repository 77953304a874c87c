package proxy

import (
	"context"
	"io"
)

// forwardCancel sends a cancel request on unchanged: its process ID and key are PostgreSQL's own,
// which the client received at startup.
func (p *Proxy) forwardCancel(packet startupPacket) {
	server, err := p.cfg.Server.Dial(p.ctx)
	if err != nil {
		return
	}
	defer server.Close()
	defer context.AfterFunc(p.ctx, func() { server.Close() })()
	if _, err := server.Write(packet.raw); err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, server) // PostgreSQL closes when it has handled the request
}
