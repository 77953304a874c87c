package dsqltest

import (
	"fmt"

	"golang.org/x/time/rate"
)

// quota is what a cluster allows in connections. The zero value allows all.
type quota struct {
	connections int           // open at a time; 0: no limit
	connects    *rate.Limiter // nil: no limit
}

// WithConnectionLimit refuses connections past n open ones, with 53300. DSQL's
// quota is 10,000; without the option PostgreSQL's own limit of about 600 for all
// clusters of the process is met first.
func WithConnectionLimit(n int) Option {
	return func(cfg *config) error {
		if n < 1 {
			return fmt.Errorf("dsqltest: a limit of %d connections: give 1 or more", n)
		}
		cfg.quota.connections = n
		return nil
	}
}

// WithConnectQuota refuses connections past perSecond in a second, with 53400, after
// a burst that is refilled at that rate. DSQL's quota is 100 and 1,000. Connections
// count when they arrive, also those whose token is then refused.
func WithConnectQuota(perSecond float64, burst int) Option {
	return func(cfg *config) error {
		if !(perSecond > 0) || burst < 1 {
			return fmt.Errorf("dsqltest: a rate of %v connections a second with a burst of %d: give more than 0 and 1 or more", perSecond, burst)
		}
		cfg.quota.connects = rate.NewLimiter(rate.Limit(perSecond), burst)
		return nil
	}
}

// arrive counts one more connection, and is why it is refused, if so. It comes
// before the token is looked at: a cluster that is busy with tokens would else see
// connections closer together than they came.
func (c *Cluster) arrive() *Refusal {
	if c.quota.connects != nil && !c.quota.connects.Allow() {
		return &Refusal{Reason: "quota: WithConnectQuota", Code: "53400", Message: connectRefusals["53400"]}
	}
	return nil
}

// hasRoom is why one more session is refused, if so.
func (c *Cluster) hasRoom() *Refusal {
	c.mu.Lock()
	defer c.mu.Unlock()
	if limit := c.quota.connections; limit > 0 && len(c.live) >= limit {
		return &Refusal{Reason: "quota: WithConnectionLimit", Code: "53300", Message: connectRefusals["53300"]}
	}
	return nil
}
