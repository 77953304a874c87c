package main

import (
	"cmp"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/go-dsql/dsql/dsqltest"
)

// serveEnv returns the environment in which programs find the cluster: the AWS SDK's variables,
// libpq's, and this command's.
func serveEnv(c *dsqltest.Cluster, role, caFile string) []string {
	env := slices.DeleteFunc(c.Env(), isContrary)
	vars := make(map[string]string)
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		vars[name] = value
	}
	role, caFile = cmp.Or(role, vars["PGUSER"]), cmp.Or(caFile, vars["PGSSLROOTCERT"])
	host := vars["PGHOSTADDR"]
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1" // where every address is listened on, this one is too
	}
	query := url.Values{"hostaddr": {host}, "port": {vars["PGPORT"]}, "sslmode": {"verify-full"}, "sslrootcert": {caFile}}.Encode()
	// libpq does not decode a +, and a script can replace a path with its slashes.
	query = strings.NewReplacer("+", "%20", "%2F", "/").Replace(query)
	u := url.URL{Scheme: "postgres", User: url.User(role), Host: c.Endpoint(), Path: "/postgres", RawQuery: query}
	return append(env,
		"PGHOSTADDR="+host,
		"PGUSER="+role,
		"PGSSLROOTCERT="+caFile,
		"DSQL_USER="+role,
		"DSQL_DIAL_ADDRESS="+net.JoinHostPort(host, vars["PGPORT"]),
		"DSQL_ROOT_CERT="+caFile,
		"DSQL_URL="+u.String(),
	)
}
