package dsql

import (
	"fmt"
	"strings"

	"github.com/go-dsql/dsql/internal/explain"
	"github.com/go-dsql/dsql/internal/sqlstate"
)

// IsAccessDenied reports whether err is or wraps DSQL's refusal of a role or a token: SQLSTATE
// 08006 or 28000 with the words "access denied". The other errors of class 08 are not: the network,
// an unknown SNI hostname, a cluster that wakes up. The cause is in the Hint of the
// *pgconn.PgError.
func IsAccessDenied(err error) bool {
	return sqlstate.Has(err, sqlstate.IsAccessDenied)
}

// IsConnectLimit reports whether err is or wraps a limit on connections: 53300, too many are
// open, or 53400, too many were opened in a second.
func IsConnectLimit(err error) bool {
	return sqlstate.Has(err, sqlstate.IsConnectLimit)
}

// Explain returns a paragraph that says what err means on DSQL and what to do about it, or "" if
// it has nothing to add. It knows the causes listed in docs/errors.md, however they are wrapped.
// Errors of [Connect], [NewPool] and [OpenDB]'s connections already carry it. Call it for the
// errors of a pool, of [NewConnector], and of [Connector.NewPool], [Connector.ConnConfig] and
// [Connector.Token].
func Explain(err error) string {
	return explain.Error(err)
}

// explained appends Explain's paragraph to an error of connecting.
func explained(err error) error {
	text := Explain(err)
	if text == "" {
		return err
	}
	prefix := ""
	if !strings.HasPrefix(err.Error(), "dsql: ") {
		prefix = "dsql: "
	}
	return fmt.Errorf("%s%w; %s", prefix, err, text)
}
