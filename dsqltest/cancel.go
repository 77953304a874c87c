package dsqltest

import (
	"context"
	"io"
)

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
