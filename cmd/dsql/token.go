package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/go-dsql/dsql"
	"github.com/go-dsql/dsql/internal/token"
)

var tokenCommand = &command{
	name:    "token",
	args:    "[ENDPOINT] [FLAGS]",
	summary: "print a token, a password that expires",
	about: `
Prints a token for the cluster at ENDPOINT, and nothing else. A token is the password of a
connection. It is signed on this machine, so an invalid one is not noticed before connecting.
Anyone who has it can connect as the role until it expires.`,
	examples: `
PGPASSWORD=$(dsql token ENDPOINT --user app) psql "host=ENDPOINT user=app dbname=postgres sslmode=verify-full sslrootcert=system"
DATABASE_URL=$(dsql token ENDPOINT --user app --url) ./migrate
dsql token ENDPOINT --json | jq -r .expires`,
	define: func(flags *flag.FlagSet) func(context.Context, streams, arguments) error {
		var t target
		t.define(flags)
		t.defineExpires(flags, 15*time.Minute)
		text(flags, &t.rootCert, "root-cert", "with --url: `FILE` of certificate authorities to trust in place of the system's")
		asURL := flags.Bool("url", false, "print a connection URL with the token as its password, and the session parameters, connect_timeout and sslrootcert of the URL given")
		asJSON := flags.Bool("json", false, "print JSON: token, expiry, endpoint, role, and the IAM principal if AWS STS answers")
		return func(ctx context.Context, std streams, given arguments) error {
			words, err := given.atMost(1, "token")
			if err != nil {
				return err
			}
			if *asURL && *asJSON {
				return usageError("token: --url and --json are mutually exclusive")
			}
			cfg, err := t.config(first(words))
			if err != nil {
				return err
			}
			switch {
			case *asJSON:
				return printTokenJSON(ctx, std, cfg)
			case *asURL:
				return printTokenURL(ctx, std, cfg, t.rootFile())
			}
			signed, err := sign(ctx, cfg)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(std.out, signed.token)
			return err
		}
	},
}

// signedToken is a token with the names that it was resolved for.
type signedToken struct {
	token, host, user, region string
	expires                   time.Time
}

// sign signs a token for cfg.
func sign(ctx context.Context, cfg dsql.Config) (signedToken, error) {
	c, err := dsql.NewConnector(ctx, cfg)
	if err != nil {
		return signedToken{}, err
	}
	text, err := c.Token(ctx)
	if err != nil {
		return signedToken{}, err
	}
	parsed, err := token.Parse(text)
	if err != nil || parsed.Expiration().IsZero() {
		return signedToken{}, errors.New("dsql: the SDK signed a token of an unknown form")
	}
	return signedToken{text, parsed.Host(), cmp.Or(cfg.User, "admin"), parsed.Region(), parsed.Expiration()}, nil
}

func printTokenURL(ctx context.Context, std streams, cfg dsql.Config, roots string) error {
	t, err := sign(ctx, cfg)
	if err != nil {
		return err
	}
	u := fmt.Sprintf("postgres://%s:%s@%s:5432/postgres?sslmode=verify-full", escape(t.user), escape(t.token), t.host)
	for _, parameter := range []struct{ name, value string }{
		{"sslrootcert", roots},
		{"application_name", cfg.RuntimeParams["application_name"]},
		{"options", sessionOptions("", cfg.RuntimeParams)}, // libpq has no parameter search_path
		{"connect_timeout", cfg.Settings["connect_timeout"]},
	} {
		if parameter.value != "" {
			u += "&" + parameter.name + "=" + escape(parameter.value)
		}
	}
	_, err = fmt.Fprintln(std.out, u)
	return err
}

// escape escapes all that means something in some part of a URL: parsers differ.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

func printTokenJSON(ctx context.Context, std streams, cfg dsql.Config) error {
	if err := loadAWS(ctx, &cfg); err != nil {
		return err
	}
	t, err := sign(ctx, cfg)
	if err != nil {
		return err
	}
	id, err := whoAmI(ctx, *cfg.AWSConfig, t.region)
	if err != nil {
		fmt.Fprintf(std.err, "dsql: AWS STS %s, so the principal is not known\n", stsReason(err))
	}
	return writeJSON(std, struct {
		Token     string    `json:"token"`
		Expires   time.Time `json:"expires"`
		Endpoint  string    `json:"endpoint"`
		Region    string    `json:"region"`
		User      string    `json:"user"`
		Principal string    `json:"principal,omitempty"`
		Account   string    `json:"account,omitempty"`
	}{t.token, t.expires, t.host, t.region, t.user, id.ARN, id.Account})
}

func writeJSON(std streams, v any) error {
	e := json.NewEncoder(std.out)
	e.SetEscapeHTML(false) // a token has & in it
	e.SetIndent("", "  ")
	return e.Encode(v)
}
