package explain

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-dsql/dsql/internal/sqlstate"
)

// ErrNotTried is the error of endpoints that are not tried because of what an earlier one answered.
var ErrNotTried = errors.New("dsql: not tried, because an endpoint refused the connection for a reason that holds for all")

// allFailed begins the explanation of a connect that failed at each endpoint of a multi-Region cluster.
const allFailed = "All endpoints of the cluster failed; see https://github.com/go-dsql/dsql/blob/main/docs/multiregion.md."

// triedHost matches what pgx's error of one host begins with: ADDRESS (HOST):
var triedHost = regexp.MustCompile(`^\S+ \(([^)]+)\): `)

// explainEndpoints explains a connect that tried several endpoints, each by its own cause, or returns
// "". One that access was denied by explains the whole.
func explainEndpoints(err error) string {
	var connect *pgconn.ConnectError
	if !errors.As(err, &connect) || connect.Config == nil || len(connect.Config.Fallbacks) == 0 || sqlstate.Has(err, sqlstate.IsAccessDenied) {
		return ""
	}
	all, ok := connect.Unwrap().(interface{ Unwrap() []error })
	if !ok || len(all.Unwrap()) < 2 || errors.Is(err, ErrNotTried) {
		return ""
	}
	parts := []string{allFailed}
	for _, cause := range all.Unwrap() {
		m := triedHost.FindStringSubmatch(cause.Error())
		if m == nil {
			return ""
		}
		text := explainOne(triedOnce{cause, connect}, targetAt(connect.Config, m[1], cause))
		if text == "" {
			text = strings.TrimPrefix(cause.Error(), m[0])
		}
		parts = append(parts, m[1]+": "+text)
	}
	return strings.Join(parts, " ")
}

// targetAt is the target of the connection to one host of cc.
func targetAt(cc *pgconn.Config, host string, err error) target {
	tls := cc.TLSConfig
	if i := slices.IndexFunc(cc.Fallbacks, func(f *pgconn.FallbackConfig) bool { return f.Host == host }); i >= 0 {
		tls = cc.Fallbacks[i].TLSConfig
	}
	region := ""
	if tls != nil {
		sessions, _ := tls.ClientSessionCache.(Sessions)
		region = sessions.Region
	}
	t := newTarget(cc.User, host, region)
	var dial *DialError
	if errors.As(err, &dial) && !strings.HasPrefix(dial.Address, host) {
		t.host, t.isRouted = dial.Address, true
	}
	return t
}

// triedOnce is the error of one endpoint, as if it were the only one of the connect.
type triedOnce struct {
	error
	connect *pgconn.ConnectError
}

func (t triedOnce) Unwrap() error { return t.error }

// As finds the connect without the errors of the other endpoints.
func (t triedOnce) As(target any) bool {
	if connect, ok := target.(**pgconn.ConnectError); ok {
		*connect = t.connect
		return true
	}
	return false
}
