package token

import (
	"crypto/subtle"
	"maps"
	"slices"
	"strconv"
	"time"
)

// ClockSkew is how far in the future a token may have been signed. AWS does not document DSQL's;
// SigV4 services usually allow 5 minutes.
const ClockSkew = 5 * time.Minute

// maxExpires is a week, in seconds.
const maxExpires = 604800

// Expected describes the token to be accepted.
type Expected struct {
	Host   string // the cluster's host name, as the client uses it
	Region string
	Action string // DbConnectAdmin or DbConnect

	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string // empty: the token must have none
}

// Verify checks that t is as expected, valid at now, and signed with the secret key. It returns an
// *[Error] that names the first failed check. The action is checked last: only the signer may learn
// that it is wrong.
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
		return fail(NotYetValid, "signed at %s, the time is %s", stamp(start), stamp(now))
	}
	if now.After(end) {
		return fail(Expired, "expired at %s, the time is %s", stamp(end), stamp(now))
	}
	return nil
}

// lifetime returns when the token was signed and when it expires.
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

// verifySigner verifies keys and signature. Its errors show no key: the token's may be a real AWS
// key.
func (t *Token) verifySigner(want Expected) error {
	if t.accessKeyID != want.AccessKeyID {
		return fail(AccessKey, "signed with credentials other than the cluster's")
	}
	given, has := t.query[securityTokenKey]
	switch {
	case want.SessionToken == "" && has:
		return fail(SessionToken, "present, but the access key has none")
	case want.SessionToken != "" && !has:
		return fail(SessionToken, "missing, but the access key has one")
	case !equal(given, want.SessionToken):
		return fail(SessionToken, "does not match the access key")
	}
	if !equal(t.query[signatureKey], t.sign(want.SecretAccessKey)) {
		return fail(Signature, "does not match: signed with another secret key, or modified after signing")
	}
	return nil
}

// equal compares in constant time.
func equal(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

func stamp(t time.Time) string { return t.UTC().Format(TimeFormat) }
