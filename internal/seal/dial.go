package seal

import (
	"context"
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-dsql/dsql/internal/endpoint"
	"github.com/go-dsql/dsql/internal/explain"
)

// Dialer opens TCP connections to a cluster.
type Dialer struct {
	Routed string // the address that is dialed in place of the host's, for errors; empty: the host's own
}

// Any dials host's addresses until one accepts. Without a LookupFunc of the caller's
// there is one, the name: net.Dialer looks it up and races IPv6 and IPv4.
func (d Dialer) Any(ctx context.Context, host string, lookup pgconn.LookupFunc, dial pgconn.DialFunc, network string) (net.Conn, error) {
	addresses, err := lookup(ctx, host)
	if err == nil && len(addresses) == 0 {
		err = errors.New("dsql: LookupFunc returned no address")
	}
	if err != nil {
		return nil, &explain.DialError{Address: host, Lookup: true, Err: err}
	}
	var errs []error
	for i, address := range addresses {
		if _, _, err := net.SplitHostPort(address); err != nil {
			address = HostPort(address)
		}
		conn, err := d.share(ctx, len(addresses)-i, dial, network, address)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// share dials one of several addresses in its share of the time left.
func (d Dialer) share(ctx context.Context, parts int, dial pgconn.DialFunc, network, address string) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok && parts > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(parts))
		defer cancel()
	}
	return d.One(ctx, dial, network, address)
}

// One dials one address.
func (d Dialer) One(ctx context.Context, dial pgconn.DialFunc, network, address string) (net.Conn, error) {
	conn, err := dial(ctx, network, address)
	if err == nil && IsNil(conn) {
		err = errors.New("dsql: DialFunc returned neither a connection nor an error")
	}
	if err != nil {
		if d.Routed != "" {
			address = d.Routed
		}
		return nil, &explain.DialError{Address: address, Err: err}
	}
	return conn, nil
}

// AsIs is a LookupFunc that leaves the name to the dialer.
func AsIs(_ context.Context, host string) ([]string, error) { return []string{host}, nil }

// LookupOf returns cc's LookupFunc or the default.
func LookupOf(cc *pgx.ConnConfig) pgconn.LookupFunc {
	if cc.LookupFunc == nil {
		return AsIs
	}
	return cc.LookupFunc
}

// DialOf returns cc's DialFunc or the default.
func DialOf(cc *pgx.ConnConfig) pgconn.DialFunc {
	if cc.DialFunc == nil {
		return NewDialer().DialContext
	}
	return cc.DialFunc
}

// Port is DSQL's, as addresses have it.
var Port = strconv.Itoa(endpoint.Port)

// HostPort returns host with DSQL's port.
func HostPort(host string) string { return net.JoinHostPort(host, Port) }
