package proxy

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRouteBySNIOrOption(t *testing.T) {
	c := start(t, withRegion("eu-central-1"))
	const (
		vpce       = "vpce-0123-abcd.dsql-fnh4.eu-central-1.vpce.amazonaws.com"
		invalid    = "unable to accept connection, invalid sni"
		none       = "unable to accept connection, sni was not received"
		otherID    = "abcdefghijklmnopqrstuvwxyz"
		publicTail = ".dsql.eu-central-1.on.aws"
	)
	privateLink := c.cfg.ID + ".dsql-fnh4.eu-central-1.on.aws"
	option := "-c amzn-cluster-id=" + c.cfg.ID
	tests := map[string]struct {
		sni     string
		options string
		signed  string // the host that the token must be signed for
		refusal string // or the refusal
	}{
		"endpoint":                      {c.Endpoint(), "", c.Endpoint(), ""},
		"endpoint in upper case":        {strings.ToUpper(c.Endpoint()), "", c.Endpoint(), ""},
		"PrivateLink name":              {privateLink, "", privateLink, ""},
		"endpoint and another's option": {c.Endpoint(), "-c amzn-cluster-id=" + otherID, c.Endpoint(), ""},
		"vpce name and option":          {vpce, option, c.Endpoint(), ""},
		"no name and option":            {"", option, c.Endpoint(), ""},
		"no name and option run on":     {"", "-camzn-cluster-id=" + c.cfg.ID, c.Endpoint(), ""},
		"no name and long option":       {"", "--amzn-cluster-id=" + c.cfg.ID, c.Endpoint(), ""},
		"other options around it":       {vpce, "-c search_path=a " + option + " -c extra_float_digits=2", c.Endpoint(), ""},
		"no name":                       {"", "", "", none},
		"no name and other option":      {"", "-c search_path=app", "", none},
		"no name and another's option":  {"", "-c amzn-cluster-id=" + otherID, "", invalid},
		"vpce name":                     {vpce, "", "", invalid},
		"vpce name, another's option":   {vpce, "-c amzn-cluster-id=" + otherID, "", invalid},
		"another cluster":               {otherID + publicTail, "", "", invalid},
		"another region":                {c.cfg.ID + ".dsql.us-east-1.on.aws", "", "", invalid},
		"another service":               {c.cfg.ID + ".rds.eu-central-1.on.aws", "", "", invalid},
		"another domain":                {c.cfg.ID + ".dsql.eu-central-1.amazonaws.com", "", "", invalid},
		"a label more":                  {"x." + c.Endpoint(), "", "", invalid},
		"localhost":                     {"localhost", "", "", invalid},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := dialWire(t, c, func(cfg *tls.Config) { cfg.ServerName, cfg.InsecureSkipVerify = test.sni, true })
			w.startup("user", "admin", "database", "postgres", "options", test.options)
			if test.refusal != "" {
				w.requireFatal("08006", test.refusal)
				return
			}
			w.requirePasswordRequest()
			w.password(signToken(t, c, "admin", func(r *request) { r.host = test.signed }))
			w.requireReady()
		})
	}
	_, refused := c.LastRefusal()
	require.False(t, refused)
}
