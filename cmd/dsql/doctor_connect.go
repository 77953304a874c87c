package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-dsql/dsql"
)

const alpn = "postgresql"

func (d *doctor) checkTLS(ctx context.Context) finding {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{
		ServerName: d.host,
		RootCAs:    d.cfg.RootCAs,
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{alpn},
	}}
	conn, err := dialer.DialContext(ctx, "tcp", d.reached[0])
	if err != nil {
		f := d.failed(err, terminated)
		f.detail, f.advice = describeTLS(err, d.host, f)
		return f
	}
	defer conn.Close()
	state := conn.(*tls.Conn).ConnectionState()
	if state.NegotiatedProtocol != alpn {
		return finding{
			verdict: verdictFailed,
			detail:  fmt.Sprintf("the server negotiated the protocol %q, not %q (ALPN)", state.NegotiatedProtocol, alpn),
			advice:  terminated,
		}
	}
	leaf := state.PeerCertificates[0]
	detail := fmt.Sprintf("%s, certificate of %s by %s until %s", tls.VersionName(state.Version),
		strings.Join(leaf.DNSNames, " "), state.VerifiedChains[0][len(state.VerifiedChains[0])-1].Subject.CommonName, leaf.NotAfter.UTC().Format(time.DateOnly))
	if time.Until(leaf.NotAfter) < 7*24*time.Hour {
		return warning("%s", detail)
	}
	return ok("%s", detail)
}

const terminated = "What answered is not DSQL but something that terminates TLS, such as a proxy or a load balancer: have it pass TCP through unchanged."

// describeTLS adds to a failed handshake what the server presented.
func describeTLS(err error, host string, f finding) (detail, advice string) {
	detail, advice = f.detail, f.advice
	var unverified *tls.CertificateVerificationError
	var notTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &unverified) && len(unverified.UnverifiedCertificates) > 0:
		leaf := unverified.UnverifiedCertificates[0]
		detail += fmt.Sprintf(" (presented: %s by %s, %s to %s)", strings.Join(leaf.DNSNames, " "), leaf.Issuer.CommonName,
			leaf.NotBefore.UTC().Format(time.DateOnly), leaf.NotAfter.UTC().Format(time.DateOnly))
	case errors.As(err, &notTLS):
		what := "something that is not TLS"
		if strings.HasPrefix(string(notTLS.RecordHeader[:]), "HTTP") {
			what = "HTTP"
		}
		detail = "the server answered the TLS handshake with " + what
		advice = "What answered is not DSQL: a proxy, or a tunnel to another port. Connect to port 5432 of " + host + " without a proxy; --dial-address must reach that port."
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		detail = "the connection was closed during the TLS handshake: " + f.detail
		advice = "Something between this machine and " + host + " closes TLS connections, such as a firewall that inspects them, or a tunnel whose far end is down or not DSQL's port 5432."
	case pgconn.Timeout(err), errors.Is(err, context.DeadlineExceeded):
		detail = "the TLS handshake was not completed in time"
		advice = "TCP was fine: a proxy or a firewall in between that does not pass TLS on is the usual cause, or a tunnel whose far end is not DSQL's port 5432."
	}
	return detail, advice
}

// connect returns the step of that name. The first of them connects; the error says which one failed.
func (d *doctor) connect(name string) func(context.Context) finding {
	return func(ctx context.Context) finding {
		if name == "clock" && d.knowsSkew && d.refused != name {
			return finding{}
		}
		if !d.tried {
			d.tried = true
			d.open(ctx)
		}
		if d.refused != name {
			return d.passed(name)
		}
		f := d.failed(d.err, "Run aws dsql get-cluster to see the cluster's status.")
		if name == "clock" {
			f.advice = clockAdvice
		}
		f.detail = refusal(d.err, f.detail)
		f.took = d.took
		return f
	}
}

func (d *doctor) open(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*d.timeout)
	defer cancel()
	cfg := d.cfg
	cfg.DialFunc, cfg.DialAddress = nil, d.reached[0] // the address whose TLS was checked
	if d.cfg.DialAddress != "" {
		cfg.DialAddress = d.cfg.DialAddress // a VPC endpoint's name has a meaning of its own
	}
	began := time.Now()
	connector, err := dsql.NewConnector(ctx, cfg)
	if err == nil {
		var cc *pgx.ConnConfig
		if cc, err = connector.ConnConfig(ctx); err == nil {
			d.conn, err = pgx.ConnectConfig(ctx, cc)
		}
	}
	d.took = time.Since(began)
	if err != nil {
		d.err, d.refused = err, stepOf(err)
	}
}

// passed returns a step of connecting that did not fail.
func (d *doctor) passed(name string) finding {
	switch name {
	case "sni":
		f := ok("%s", d.host)
		f.took = time.Nanosecond // connecting took the time of its last step
		return f
	case "cluster":
		return ok("takes connections")
	case "clock":
		return ok("the cluster accepted the token's time")
	case "authentication":
		f := ok("the token was accepted")
		f.took = d.took
		return f
	case "role":
		return ok("%s", d.user)
	}
	return ok("open")
}

// stepOf returns the step at which an error of connecting belongs.
func stepOf(err error) string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return "authentication" // TLS was fine, and nothing but the token comes next
	}
	words := strings.ToLower(pg.Message + " " + pg.Hint)
	has := func(parts ...string) bool {
		for _, part := range parts {
			if strings.Contains(words, part) {
				return true
			}
		}
		return false
	}
	switch {
	case has("sni was not received", "invalid sni"):
		return "sni"
	case pg.Code == "53300", pg.Code == "53400", has("waking up cluster"):
		return "cluster"
	case has("signature expired", "signature not yet current"):
		return "clock"
	case has("login attribute"), pg.Code == "28000":
		return "role"
	case pg.Code == "08006", has("access denied", "password"):
		return "authentication"
	}
	return "session"
}

// refusal returns what the server said, or otherwise if it said nothing.
func refusal(err error, otherwise string) string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return otherwise
	}
	detail := pg.Code + " " + pg.Message
	if pg.Hint != "" && !strings.HasPrefix(pg.Hint, "dsql: ") {
		detail += " (" + pg.Hint + ")"
	}
	return oneLine(detail)
}

func (d *doctor) checkQuery(ctx context.Context) finding {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	began := time.Now()
	var one int
	if err := d.conn.QueryRow(ctx, "SELECT 1", pgx.QueryExecModeSimpleProtocol).Scan(&one); err != nil {
		f := d.failed(err, "The connection was opened, but a statement failed: try again, and see https://health.aws.amazon.com if it persists.")
		f.detail = refusal(err, f.detail)
		return f
	}
	return ok("SELECT 1, round trip %.1f ms", float64(time.Since(began).Microseconds())/1000)
}

func (d *doctor) checkVersion(ctx context.Context) finding {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	var version, number string
	err := d.conn.QueryRow(ctx, "SELECT version(), current_setting('server_version')").Scan(&version, &number)
	if err != nil {
		return warning("not known: %s", refusal(err, "the server did not say"))
	}
	return ok("%s, server_version %s", version, number)
}

// quotas are those of a database that SQL can see.
var quotas = []struct {
	what  string
	limit int
	query string
}{
	{"schemas", 10, `SELECT count(*) FROM pg_namespace WHERE nspname NOT IN ('public', 'sys', 'information_schema') AND nspname NOT LIKE 'pg\_%'`},
	{"tables", 1000, objects("r")},
	{"views", 5000, objects("v")},
	{"sequences", 5000, objects("S")},
}

func objects(kind string) string {
	return `SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = '` + kind +
		`' AND n.nspname NOT IN ('sys', 'information_schema') AND n.nspname NOT LIKE 'pg\_%'`
}

// checkQuotas never fails: it is about what comes, not about connecting.
func (d *doctor) checkQuotas(ctx context.Context) finding {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	var said []string
	near := false
	for _, q := range quotas {
		var n int
		if err := d.conn.QueryRow(ctx, q.query).Scan(&n); err != nil {
			return warning("not known: %s", refusal(err, "the server did not say"))
		}
		said = append(said, fmt.Sprintf("%d of %d %s", n, q.limit, q.what))
		near = near || n*10 >= q.limit*9
	}
	detail := strings.Join(said, ", ")
	if near {
		return warning("%s", detail)
	}
	return ok("%s", detail)
}
