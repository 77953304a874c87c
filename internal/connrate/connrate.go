// Package connrate keeps new connections within the quota of a cluster.
package connrate

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/time/rate"

	"github.com/go-dsql/dsql/internal/explain"
)

// DSQL's quota of new connections for a whole cluster:
// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/CHAP_quotas.html
const (
	defaultConnectRate  = 100
	defaultConnectBurst = 1000
)

// Guard keeps connections within the cluster's quota.
//
// The cluster counts a connection when it arrives, which is later than its turn
// came here. So a tenth of the burst is kept back from the turns, and no more
// connections than that are on their way at a time: in any stretch of time, those
// that arrive are those that had their turn in it, and at most that tenth.
type Guard struct {
	turns  *rate.Limiter
	places chan struct{} // one is held by each connection on its way
}

// New returns nil if there is to be no limit.
func New(perSecond float64, burst int) (*Guard, error) {
	if perSecond < 0 {
		return nil, nil
	}
	perSecond, burst = cmp.Or(perSecond, defaultConnectRate), cmp.Or(burst, defaultConnectBurst)
	if math.IsNaN(perSecond) || math.IsInf(perSecond, 0) || burst < 0 {
		return nil, fmt.Errorf("dsql: a ConnectRate of %v with a ConnectBurst of %d: give 0 for the defaults, or a negative rate for no limit", perSecond, burst)
	}
	kept := max(1, burst/10)
	return &Guard{
		turns:  rate.NewLimiter(rate.Limit(perSecond), max(1, burst-kept)),
		places: make(chan struct{}, kept),
	}, nil
}

// Wait waits until another connection may be opened.
func (l *Guard) Wait(ctx context.Context) error {
	if l == nil {
		return nil
	}
	if err := l.turns.Wait(ctx); err != nil {
		if ctx.Err() == nil { // it would end before the turn
			err = context.DeadlineExceeded
		}
		return l.timedOut(err)
	}
	return nil
}

// Place waits until few enough connections are on their way. The caller gives the
// place back, once or more often.
func (l *Guard) Place(ctx context.Context) (giveBack func(), err error) {
	if l == nil {
		return func() {}, nil
	}
	select {
	case l.places <- struct{}{}:
		return sync.OnceFunc(func() { <-l.places }), nil
	case <-ctx.Done():
		return nil, l.timedOut(ctx.Err())
	}
}

func (l *Guard) timedOut(err error) error {
	return explain.Advise(explain.ConnectRate, fmt.Errorf("dsql: no turn to connect came in time, WithConnectRate allows %v a second: %w", l.turns.Limit(), err))
}

// ReleaseAfterConnect gives the place back when the connect with cc ends: pgx
// then ends the context that it dials with. One that is never dialled gives it
// back after the connect timeout.
func ReleaseAfterConnect(cc *pgx.ConnConfig, giveBack func()) {
	timer := time.AfterFunc(cc.ConnectTimeout, giveBack)
	end := func() {
		timer.Stop()
		giveBack()
	}
	lookup, dial := cc.LookupFunc, cc.DialFunc
	cc.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
		addresses, err := lookup(ctx, host)
		if len(addresses) == 0 {
			end()
		}
		return addresses, err
	}
	cc.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		context.AfterFunc(ctx, end)
		return dial(ctx, network, address)
	}
}
