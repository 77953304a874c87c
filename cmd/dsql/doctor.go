package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/endpoint"
)

// Verdicts of a step.
const (
	verdictOK      = "ok"
	verdictWarning = "warning"
	verdictFailed  = "failed"
	verdictSkipped = "skipped"
)

// step is one line of the report.
type step struct {
	Name    string  `json:"step"`
	Verdict string  `json:"verdict"`
	Millis  float64 `json:"ms"`
	Detail  string  `json:"detail,omitempty"`
	Advice  string  `json:"advice,omitempty"`
}

// report is the whole of it, as --json prints it.
type report struct {
	Endpoint string `json:"endpoint"`
	Region   string `json:"region,omitempty"`
	User     string `json:"user"`
	OK       bool   `json:"ok"`
	Failed   string `json:"failed,omitempty"` // the first step that failed
	Steps    []step `json:"steps"`

	Peers []report `json:"peers,omitempty"` // each peer's own; OK is of all
}

var doctorCommand = &command{
	name:    "doctor",
	args:    "[ENDPOINT] [FLAGS]",
	summary: "find out why a cluster cannot be reached",
	about: `
Checks step by step what a connection needs, and says what to do about the first step that fails:

  endpoint        the shape of the endpoint's name
  region          the AWS Region that tokens are signed for
  settings        the role's name and the other settings
  credentials     where the AWS credentials come from, and when they expire
  identity        the account and the principal, if AWS STS answers
  clock           this machine's clock against AWS STS's, or else against the cluster's
  dns             the endpoint's IPv4 and IPv6 addresses
  tcp             a connection to each address
  tls             the certificate's chain, names and dates, and ALPN
  sni             whether the cluster received the name, as SNI
  cluster         whether it takes connections: awake, and within its quotas
  authentication  the token, and the IAM permission
  role            whether the role exists and is granted to the principal
  session         the session parameters
  query           a statement and its round trip
  version         the version that the server reports
  quotas          schemas, tables, views and sequences against DSQL's limits

Each --peer, and each peer that a URL or DSQL_FAILOVER names, is then checked in the same way, by
itself: a connection would hide the fault of one endpoint by going to another.

It changes nothing in the cluster. No secret is printed.`,
	examples: `
dsql doctor ENDPOINT
dsql doctor ENDPOINT --user app --json | jq .failed
dsql doctor ENDPOINT --peer PEER-ENDPOINT
dsql doctor ENDPOINT --dial-address 127.0.0.1:15432`,
	statuses: ``,
	define: func(flags *flag.FlagSet) func(context.Context, streams, arguments) error {
		var t target
		t.define(flags)
		t.defineRoute(flags)
		timeout := flags.Duration("timeout", 5*time.Second, "`TIME` for each step on the network")
		var peers []dsql.Peer
		flags.Func("peer", "`ENDPOINT[/REGION]` of the cluster in another Region, to check too; may be repeated", func(given string) error {
			host, region, _ := strings.Cut(given, "/")
			peers = append(peers, dsql.Peer{Endpoint: host, Region: region})
			_, err := endpoint.ParsePeer(host, region)
			return err
		})
		asJSON := flags.Bool("json", false, "print JSON")
		return func(ctx context.Context, std streams, given arguments) error {
			words, err := given.atMost(1, "doctor")
			if err != nil {
				return err
			}
			if *timeout <= 0 {
				return usageError("doctor: invalid --timeout %v: must be over 0", *timeout)
			}
			d := &doctor{target: &t, given: first(words), timeout: *timeout}
			if !*asJSON {
				d.tell = func(s step) { printStep(std.out, s) }
			}
			result, err := d.examineAll(ctx, std.out, peers)
			if err != nil {
				return err
			}
			if *asJSON {
				if err := writeJSON(std, result); err != nil {
					return err
				}
			}
			if !result.OK {
				return &exitError{code: exitFailed}
			}
			return nil
		}
	},
}

func printStep(w io.Writer, s step) {
	fmt.Fprintf(w, "%-8s %-15s %7.1f ms  %s\n", s.Verdict, s.Name, s.Millis, s.Detail)
}

func printEnd(w io.Writer, r report) {
	if r.OK {
		fmt.Fprintf(w, "\n%s at %s: no fault found.\n", r.User, r.Endpoint)
		return
	}
	for _, s := range r.Steps {
		if s.Verdict == verdictFailed {
			fmt.Fprintf(w, "\nFailed: %s. What to do: %s\n", s.Name, cmp.Or(s.Advice, "see the detail above."))
		}
	}
}

// examineAll examines the endpoint and then its peers, those given and those that the endpoint's
// configuration has.
func (d *doctor) examineAll(ctx context.Context, out io.Writer, peers []dsql.Peer) (report, error) {
	all, err := d.examine(ctx)
	if err != nil {
		return all, err
	}
	if d.tell != nil {
		printEnd(out, all)
	}
	if d.settled == nil { // the same would be wrong for each
		return all, nil
	}
	for _, peer := range append(peers, d.settled.Failover...) {
		cfg := *d.settled
		cfg.Endpoint, cfg.Region, cfg.Failover = peer.Endpoint, peer.Region, nil
		other := &doctor{target: &target{preset: &cfg}, given: peer.Endpoint, timeout: d.timeout, tell: d.tell}
		if d.tell != nil {
			fmt.Fprintf(out, "\nThe peer %s\n\n", peer.Endpoint)
		}
		r, err := other.examine(ctx)
		if err != nil {
			return all, err
		}
		if d.tell != nil {
			printEnd(out, r)
		}
		all.Peers = append(all.Peers, r)
		all.OK = all.OK && r.OK
	}
	return all, nil
}
