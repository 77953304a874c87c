package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jackc/pgx/v5"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/endpoint"
)

// finding is the outcome of a step. One without a verdict is not reported.
type finding struct {
	verdict, detail, advice string
	took                    time.Duration // 0: the step's own time
}

func ok(format string, args ...any) finding {
	return finding{verdict: verdictOK, detail: fmt.Sprintf(format, args...)}
}

func warning(format string, args ...any) finding {
	return finding{verdict: verdictWarning, detail: fmt.Sprintf(format, args...)}
}

// doctor is one examination: what the steps so far have found out.
type doctor struct {
	target  *target
	given   string // the endpoint as the user wrote it, or ""
	timeout time.Duration
	tell    func(step) // called as steps end; may be nil

	cfg       dsql.Config
	settled   *dsql.Config // cfg as the user has it; nil: something is wrong with it
	parsed    endpoint.Endpoint
	host      string // the whole endpoint's, and what follows from it
	region    string
	user      string
	arn       string        // of the principal, if known
	skew      time.Duration // of this machine's clock
	knowsSkew bool
	addresses []string // host:port to connect to
	reached   []string // those of them that answered
	conn      *pgx.Conn
	refused   string // the step at which connecting failed
	err       error  // with which it failed
	took      time.Duration
	tried     bool // to connect
}

// examine runs the steps until one fails.
func (d *doctor) examine(ctx context.Context) (report, error) {
	steps := []struct {
		name string
		run  func(context.Context) finding
	}{
		{"endpoint", d.checkEndpoint},
		{"region", d.checkRegion},
		{"settings", d.checkSettings},
		{"credentials", d.checkCredentials},
		{"identity", d.checkIdentity},
		{"clock", d.checkClock},
		{"dns", d.checkDNS},
		{"tcp", d.checkTCP},
		{"tls", d.checkTLS},
		{"sni", d.connect("sni")},
		{"cluster", d.connect("cluster")},
		{"clock", d.connect("clock")}, // if STS did not answer
		{"authentication", d.connect("authentication")},
		{"role", d.connect("role")},
		{"session", d.connect("session")},
		{"query", d.checkQuery},
		{"version", d.checkVersion},
		{"quotas", d.checkQuotas},
	}
	defer func() {
		if d.conn != nil {
			_ = d.conn.Close(context.Background())
		}
	}()
	r := report{OK: true}
	for _, s := range steps {
		if !r.OK {
			if !slices.ContainsFunc(r.Steps, func(done step) bool { return done.Name == s.name }) {
				r.Steps = d.add(r.Steps, step{Name: s.name, Verdict: verdictSkipped})
			}
			continue
		}
		began := time.Now()
		f := s.run(ctx)
		if err := ctx.Err(); err != nil {
			return r, fmt.Errorf("dsql: doctor was interrupted: %w", err)
		}
		if f.verdict == "" {
			continue
		}
		took := cmp.Or(f.took, time.Since(began))
		r.Steps = d.add(r.Steps, step{s.name, f.verdict, float64(took.Microseconds()) / 1000, f.detail, f.advice})
		if f.verdict == verdictFailed {
			r.OK, r.Failed = false, s.name
		}
	}
	r.Endpoint, r.Region, r.User = cmp.Or(d.host, d.shownEndpoint()), d.region, d.user
	return r, nil
}

func (d *doctor) add(steps []step, s step) []step {
	if d.tell != nil {
		d.tell(s)
	}
	return append(steps, s)
}

// shownEndpoint returns an endpoint that was refused, unless it may be a secret.
func (d *doctor) shownEndpoint() string {
	if _, err := endpoint.BareName(d.given); err != nil {
		return ""
	}
	return d.given
}

// failed returns a step's failure with Explain's advice, or with own if Explain has none.
func (d *doctor) failed(err error, own string) finding {
	advice := cmp.Or(dsql.Explain(err), own)
	detail := strings.TrimSuffix(err.Error(), "; "+advice)
	return finding{verdict: verdictFailed, detail: oneLine(detail), advice: d.fill(advice)}
}

// fill inserts the values that the error did not contain.
func (d *doctor) fill(advice string) string {
	pairs := []string{"<endpoint>", d.host, "<role>", d.user, "<region>", d.region}
	if d.arn != "" {
		pairs = append(pairs, "<ARN of the IAM principal>", grantee(d.arn))
	}
	if d.parsed.ClusterID != "" {
		pairs = append(pairs, "<cluster ID>", d.parsed.ClusterID)
	}
	return asFlags(strings.NewReplacer(pairs...).Replace(advice))
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func (d *doctor) checkEndpoint(context.Context) finding {
	const advice = "Use the endpoint that aws dsql get-cluster shows: <cluster ID>.dsql.<region>.on.aws."
	if d.given == "" && d.target.preset == nil && os.Getenv("DSQL_ENDPOINT") == "" {
		return finding{verdict: verdictFailed, detail: "no ENDPOINT was given, and DSQL_ENDPOINT is not set", advice: advice}
	}
	cfg, _, err := d.target.base(d.given)
	if err != nil {
		return d.failed(err, advice)
	}
	d.cfg = cfg
	if d.parsed, err = endpoint.Parse(cfg.Endpoint); err != nil {
		return d.failed(err, advice)
	}
	d.user = cmp.Or(d.target.user, cfg.User, "admin")
	switch {
	case d.parsed.ClusterID == "":
		return warning("%s is not a name that AWS gave; DSQL finds a cluster by <cluster ID>.dsql.<region>.on.aws", d.parsed.Host)
	case d.parsed.Host == "":
		return ok("cluster ID %s", d.parsed.ClusterID)
	}
	return ok("%s", d.parsed.Host)
}

func (d *doctor) checkRegion(ctx context.Context) finding {
	const advice = "Use --region with the Region that the cluster is in, or its whole endpoint."
	region := cmp.Or(d.target.region, d.cfg.Region)
	from := "the flag or DSQL_REGION"
	if region == "" && d.parsed.Region == "" && d.parsed.Host == "" {
		cfg := d.cfg
		cfg.Profile = cmp.Or(d.target.profile, cfg.Profile)
		if err := loadAWS(ctx, &cfg); err == nil {
			region, from = cfg.AWSConfig.Region, "the AWS configuration"
		}
	}
	e, err := d.parsed.In(region)
	if err != nil {
		return d.failed(err, advice)
	}
	if d.parsed.Region != "" {
		from = "the endpoint"
	}
	d.host, d.region = e.Host, e.Region
	return ok("%s, from %s", e.Region, from)
}

// checkSettings has the library check everything that needs no credentials.
func (d *doctor) checkSettings(ctx context.Context) finding {
	const advice = "Correct the flag, the variable or the URL."
	cfg, err := d.target.config(d.given)
	if err != nil {
		return d.failed(err, advice)
	}
	d.cfg = cfg
	d.cfg.Region = d.region
	dry := d.cfg
	dry.Profile, dry.AWSConfig = "", nil
	dry.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "none", SecretAccessKey: "none"}, nil
	})
	if _, err := dsql.NewConnector(ctx, dry); err != nil {
		return d.failed(err, advice)
	}
	settled := d.cfg
	d.settled = &settled
	d.cfg.Failover, d.cfg.NearestFirst = nil, false // another endpoint must not hide the faults of this one
	return ok("role %s", d.user)
}

func (d *doctor) checkCredentials(ctx context.Context) finding {
	const advice = "Run aws sts get-caller-identity here, and correct the profile or the variables that it complains about."
	if err := loadAWS(ctx, &d.cfg); err != nil {
		return d.failed(err, advice)
	}
	if _, err := dsql.NewConnector(ctx, d.cfg); err != nil {
		return d.failed(err, advice)
	}
	creds, err := d.cfg.AWSConfig.Credentials.Retrieve(ctx)
	if err != nil {
		return finding{verdict: verdictFailed, detail: "the credentials could not be renewed", advice: advice}
	}
	expiry := "they do not say when they expire"
	if creds.CanExpire {
		left := time.Until(creds.Expires).Round(time.Second)
		expiry = fmt.Sprintf("expire at %s, in %v", creds.Expires.UTC().Format(time.RFC3339), left)
		if left < 15*time.Minute {
			return warning("%s from %s, %s", creds.AccessKeyID, creds.Source, expiry)
		}
	}
	return ok("%s from %s, %s", creds.AccessKeyID, creds.Source, expiry)
}

// checkIdentity never fails: connecting does not need AWS STS.
func (d *doctor) checkIdentity(ctx context.Context) finding {
	sent := time.Now()
	id, err := whoAmI(ctx, *d.cfg.AWSConfig, d.region)
	if !id.now.IsZero() {
		d.knowsSkew = true
		// The time is in whole seconds, and of some moment between question and answer.
		d.skew = sent.Add(time.Since(sent) / 2).Sub(id.now.Add(time.Second / 2))
	}
	if err != nil {
		return warning("AWS STS %s, so the principal is not known", stsReason(err))
	}
	d.arn = id.ARN
	return ok("%s in account %s", id.ARN, id.Account)
}

// stsReason returns why STS did not answer, without the text of a foreign error.
func stsReason(err error) string {
	var coded interface{ ErrorCode() string }
	switch {
	case errors.As(err, &coded):
		return "answered " + coded.ErrorCode()
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("did not answer in %v", identityTimeout)
	}
	return "could not be reached"
}

// maxSkew is how far a clock may be off before AWS refuses what it signs.
const maxSkew = 5 * time.Minute

const clockAdvice = "Set this machine's clock (NTP): tokens carry its time. In a virtual machine or WSL it may have stopped while the host slept."

func (d *doctor) checkClock(context.Context) finding {
	if !d.knowsSkew {
		return finding{}
	}
	off := d.skew.Abs().Round(time.Second)
	direction := "ahead of"
	if d.skew < 0 {
		direction = "behind"
	}
	switch {
	case off > maxSkew:
		return finding{verdict: verdictFailed, detail: fmt.Sprintf("%v %s AWS's clock", off, direction), advice: clockAdvice}
	case off > 30*time.Second:
		return warning("%v %s AWS's clock", off, direction)
	}
	return ok("within %v of AWS's clock", max(off, time.Second))
}

func (d *doctor) checkDNS(ctx context.Context) finding {
	name, port := d.host, fmt.Sprint(endpoint.Port)
	if d.cfg.DialAddress != "" {
		address, err := endpoint.ParseDialAddress(d.cfg.DialAddress)
		if err != nil {
			return d.failed(err, "")
		}
		if name, port, err = net.SplitHostPort(address); err != nil {
			return d.failed(err, "")
		}
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	var found []string
	var lastErr error
	for _, family := range []struct{ network, record string }{{"ip4", "A"}, {"ip6", "AAAA"}} {
		ips, err := net.DefaultResolver.LookupNetIP(ctx, family.network, name)
		if err != nil {
			lastErr = err
			found = append(found, family.record+" none")
			continue
		}
		var texts []string
		for _, ip := range ips {
			texts = append(texts, ip.Unmap().String())
			d.addresses = append(d.addresses, net.JoinHostPort(ip.Unmap().String(), port))
		}
		found = append(found, family.record+" "+strings.Join(texts, " "))
	}
	if len(d.addresses) == 0 {
		return d.failed(lastErr, "The name could not be looked up: check the resolver of this machine.")
	}
	return ok("%s: %s", name, strings.Join(found, "; "))
}

func (d *doctor) checkTCP(ctx context.Context) finding {
	type result struct {
		address string
		err     error
		took    time.Duration
	}
	results := make(chan result, len(d.addresses))
	for _, address := range d.addresses {
		go func() {
			began := time.Now()
			conn, err := (&net.Dialer{Timeout: d.timeout}).DialContext(ctx, "tcp", address)
			if err == nil {
				conn.Close()
			}
			results <- result{address, err, time.Since(began)}
		}()
	}
	byAddress := make(map[string]result)
	for range d.addresses {
		r := <-results
		byAddress[r.address] = r
	}
	var said []string
	var lastErr error
	for _, address := range d.addresses {
		r := byAddress[address]
		if r.err != nil {
			lastErr = r.err
			said = append(said, r.err.Error())
			continue
		}
		d.reached = append(d.reached, address)
		said = append(said, fmt.Sprintf("%s in %.1f ms", address, float64(r.took.Microseconds())/1000))
	}
	detail := strings.Join(said, "; ")
	switch {
	case len(d.reached) == 0:
		f := d.failed(lastErr, "Nothing answered on port 5432. A security group, network ACL or firewall that drops packets is the usual cause, or a subnet without a way out (NAT, internet gateway, PrivateLink).")
		f.detail = detail
		return f
	case lastErr != nil:
		return warning("%s", detail)
	}
	return ok("%s", detail)
}
