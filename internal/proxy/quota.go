package proxy

import "golang.org/x/time/rate"

// quota limits a cluster's connections. The zero value limits nothing.
type quota struct {
	maxOpen  int           // 0: no limit
	connects *rate.Limiter // nil: no limit
}

func newQuota(cfg Config) quota {
	q := quota{maxOpen: cfg.MaxConnections}
	if cfg.ConnectRate > 0 {
		q.connects = rate.NewLimiter(rate.Limit(cfg.ConnectRate), cfg.ConnectBurst)
	}
	return q
}

// checkRate counts one more connection and returns its refusal if it exceeds the rate. Call it
// before the token is verified: while tokens queue for the CPU, connections that arrived spread
// out would be counted close together.
func (q quota) checkRate() *Refusal {
	if q.connects == nil || q.connects.Allow() {
		return nil
	}
	return &Refusal{Reason: "quota: WithConnectQuota", Code: tooManyConfigured, Message: connectRefusals[tooManyConfigured]}
}

// checkOpen returns the refusal of one more session than may be open, or nil.
func (q quota) checkOpen(open int) *Refusal {
	if q.maxOpen == 0 || open < q.maxOpen {
		return nil
	}
	return &Refusal{Reason: "quota: WithConnectionLimit", Code: tooManyConnections, Message: connectRefusals[tooManyConnections]}
}
