package dsqltest

import (
	"context"
	"io"
	"net"
)

// relay carries bytes between a client and the engine until the engine ends the
// session or the client is gone. It closes both.
//
// A client that ends first has its last statements carried out, as behind a
// real server: the engine reads them to the end, and then its end of file.
func relay(client, engine net.Conn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(engine, client)
		if half, ok := engine.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	}()
	_, _ = io.Copy(client, engine)
	client.Close()
	engine.Close()
	<-done
}

// cancelQuery passes a cancel request on as it is: the process ID and the key in
// it are the engine's own, which the client was given.
func (c *Cluster) cancelQuery(packet startupPacket) {
	engine, err := c.engine.Dial(c.ctx)
	if err != nil {
		return
	}
	defer engine.Close()
	defer context.AfterFunc(c.ctx, func() { engine.Close() })()
	if _, err := engine.Write(packet.raw); err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, engine) // it closes when it has seen to it
}
