package dsql

import (
	"cmp"
	"context"
	"fmt"
	"math"

	"golang.org/x/time/rate"
)

// DSQL's quota of new connections for a whole cluster:
// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/CHAP_quotas.html
const (
	defaultConnectRate  = 100
	defaultConnectBurst = 1000
)

// newConnectLimit returns nil if there is to be no limit. It keeps a tenth of the
// burst back: the cluster begins to count when the first connection arrives, which
// is later than it was begun here.
func newConnectLimit(perSecond float64, burst int) (*rate.Limiter, error) {
	if perSecond < 0 {
		return nil, nil
	}
	perSecond, burst = cmp.Or(perSecond, defaultConnectRate), cmp.Or(burst, defaultConnectBurst)
	if math.IsNaN(perSecond) || math.IsInf(perSecond, 0) || burst < 0 {
		return nil, fmt.Errorf("dsql: a ConnectRate of %v with a ConnectBurst of %d: give 0 for the defaults, or a negative rate for no limit", perSecond, burst)
	}
	return rate.NewLimiter(rate.Limit(perSecond), burst-burst/10), nil
}

// waitTurn waits until another connection may be opened.
func (c *Connector) waitTurn(ctx context.Context) error {
	if c.connects == nil {
		return nil
	}
	if err := c.connects.Wait(ctx); err != nil {
		if ctx.Err() == nil { // it would end before the turn
			err = context.DeadlineExceeded
		}
		return fmt.Errorf("dsql: no turn to connect came in time, WithConnectRate allows %v a second: %w", c.connects.Limit(), err)
	}
	return nil
}
