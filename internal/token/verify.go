package token

import (
	"crypto/subtle"
	"maps"
	"slices"
	"strconv"
	"time"
)

// ClockSkew is how far in the future a token may have been signed. AWS does not
// say what DSQL allows; 5 minutes is what SigV4 services usually do.
const ClockSkew = 5 * time.Minute

// maxExpires is a week, in seconds.
const maxExpires = 604800

// Expected is what a token must say.
type Expected struct {
	Host   string // the cluster's name, as the client knows it
	Region string
	Action string // DbConnectAdmin or DbConnect

	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string // empty: the token must not carry one
}

// Verify checks that t says what is expected, is valid at now, and was signed
// with the secret key. It fails with an *[Error] that names the first check that
// did not pass. The action comes last: only the signer may learn that it is wrong.
func (t *Token) Verify(want Expected, now time.Time) error {
	if err := t.verifyScope(want); err != nil {
		return err
	}
	if err := t.verifyTime(now); err != nil {
		return err
	}
	if err := t.verifySigner(want); err != nil {
		return err
	}
	if t.Action() != want.Action {
		return fail(Action, "signed for %.100q, the role needs %q", t.Action(), want.Action)
	}
	return nil
}

func (t *Token) verifyScope(want Expected) error {
	if algorithm := t.query[algorithmKey]; algorithm != sigV4 {
		return fail(Algorithm, "%.100q, not %q", algorithm, sigV4)
	}
	if headers := t.query[signedHeadersKey]; headers != "host" {
		return fail(SignedHeaders, "%.100q, not %q", headers, "host")
	}
	if t.service != "dsql" {
		return fail(Service, "signed for %.100q, not %q", t.service, "dsql")
	}
	for _, key := range slices.Sorted(maps.Keys(t.query)) {
		if !known(key) {
			return fail(Query, "%.100q is not a parameter of a token", key)
		}
	}
	if t.region != want.Region {
		return fail(Region, "signed for %.100q, the cluster is in %q", t.region, want.Region)
	}
	if t.host != want.Host {
		return fail(Host, "signed for %.100q, the cluster was reached as %q", t.host, want.Host)
	}
	return nil
}

func known(key string) bool {
	switch key {
	case actionKey, algorithmKey, credentialKey, dateKey, expiresKey, securityTokenKey, signedHeadersKey, signatureKey:
		return true
	}
	return false
}

func (t *Token) verifyTime(now time.Time) error {
	start, end, err := t.lifetime()
	if err != nil {
		return err
	}
	if now.Add(ClockSkew).Before(start) {
		return fail(NotYetValid, "signed at %s, it is %s", stamp(start), stamp(now))
	}
	if now.After(end) {
		return fail(Expired, "ended at %s, it is %s", stamp(end), stamp(now))
	}
	return nil
}

// lifetime is when the token was signed and when it ends.
func (t *Token) lifetime() (start, end time.Time, err error) {
	date := t.query[dateKey]
	start, err = time.Parse(TimeFormat, date)
	if err != nil || start.Format(TimeFormat) != date {
		return start, end, fail(Date, "%.100q is not a time like %s", date, TimeFormat)
	}
	if day := date[:len("20060102")]; t.day != day {
		return start, end, fail(Date, "the credential scope is for the day %.100q, %s says %s", t.day, dateKey, date)
	}
	text := t.query[expiresKey]
	seconds, err := strconv.Atoi(text)
	if err != nil || seconds < 1 || seconds > maxExpires || strconv.Itoa(seconds) != text {
		return start, end, fail(Expires, "%.100q is not whole seconds from 1 to %d", text, maxExpires)
	}
	return start, start.Add(time.Duration(seconds) * time.Second), nil
}

// verifySigner shows no key: the one given may be a real one of AWS.
func (t *Token) verifySigner(want Expected) error {
	if t.accessKeyID != want.AccessKeyID {
		return fail(AccessKey, "signed with credentials other than the cluster's own")
	}
	given, has := t.query[securityTokenKey]
	switch {
	case want.SessionToken == "" && has:
		return fail(SessionToken, "there is one, and the access key has none")
	case want.SessionToken != "" && !has:
		return fail(SessionToken, "there is none, and the access key has one")
	case !equal(given, want.SessionToken):
		return fail(SessionToken, "not the one of the access key")
	}
	if !equal(t.query[signatureKey], t.sign(want.SecretAccessKey)) {
		return fail(Signature, "does not fit: the token was signed with another secret key, or changed after signing")
	}
	return nil
}

// equal takes as long for a wrong secret as for the right one.
func equal(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

func stamp(t time.Time) string { return t.UTC().Format(TimeFormat) }
