package dsqltest

import "time"

// Event is one entry of [Cluster.Log]: a statement that was received, an error that was sent to a
// client, or a connection that was refused.
type Event struct {
	Time    time.Time
	Session int    // counted from 1; 0 for a refused connection
	User    string // the role, at most 1,000 bytes
	SQL     string // as received, at most 1,000 bytes; empty if the event is an error
	Code    string // SQLSTATE as sent; empty if the event is a statement
	Message string // as sent with Code, at most 1,000 bytes
}

// Log returns what the endpoint has received and refused, oldest first. It keeps the latest 5,000
// events at least. [Cluster.LastRefusal] returns the reason of a refused connection.
func (c *Cluster) Log() []Event {
	events := c.proxy.Log()
	log := make([]Event, len(events))
	for i, e := range events {
		log[i] = Event(e)
	}
	return log
}
