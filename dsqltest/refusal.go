package dsqltest

// Refusal describes why a client was refused. Its severity is always FATAL.
type Refusal struct {
	Reason  string // exact cause, for the test's author; never sent, never secret
	Code    string // SQLSTATE as sent; empty if the connection was closed silently
	Message string // as sent
	Hint    string // as sent
	User    string // the role in the startup message
}

// LastRefusal returns why the last refused client was refused, and whether there was one. A client
// that does not name a cluster belongs to none: only its own error says why it was refused.
func (c *Cluster) LastRefusal() (Refusal, bool) {
	refusal, ok := c.proxy.LastRefusal()
	return Refusal(refusal), ok
}
