// Package token parses and verifies the tokens that clients authenticate to DSQL with. A token is a
// presigned SigV4 request, GET https://HOST/?Action=…, without its scheme. The signature is
// computed here with crypto/hmac alone, so that clients are verified by an independent signer.
package token

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Check names the check that a token failed.
type Check string

// The checks, in order.
const (
	Shape         Check = "shape"          // not a token, or parts are missing
	Query         Check = "query"          // a parameter is repeated, unknown, or not encoded as SigV4 requires
	Algorithm     Check = "algorithm"      // not AWS4-HMAC-SHA256
	SignedHeaders Check = "signed headers" // not host alone
	Service       Check = "service"        // not dsql, as in a token for RDS
	Region        Check = "region"         // signed for another Region
	Date          Check = "date"           // not a time, or not on the day of the credential scope
	Expires       Check = "expires"        // not whole seconds, 1 to 604800
	Host          Check = "host"           // signed for another name
	NotYetValid   Check = "not yet valid"  // signed in the future
	Expired       Check = "expired"        // past its lifetime
	AccessKey     Check = "access key"     // unknown to the server
	SessionToken  Check = "session token"  // does not match the access key
	Signature     Check = "signature"      // made with another secret key, or the token was modified
	Action        Check = "action"         // does not match the role
)

// Error describes why a token is refused. Its text says what was expected and what was given, and
// contains no secret.
type Error struct {
	Check  Check
	Reason string
}

func (e *Error) Error() string { return string(e.Check) + ": " + e.Reason }

func fail(check Check, format string, args ...any) error {
	return &Error{check, fmt.Sprintf(format, args...)}
}

// The parameters of a token. All but the security token are required.
const (
	actionKey        = "Action"
	algorithmKey     = "X-Amz-Algorithm"
	credentialKey    = "X-Amz-Credential"
	dateKey          = "X-Amz-Date"
	expiresKey       = "X-Amz-Expires"
	securityTokenKey = "X-Amz-Security-Token"
	signedHeadersKey = "X-Amz-SignedHeaders"
	signatureKey     = "X-Amz-Signature"
)

// TimeFormat is the layout of times in SigV4.
const TimeFormat = "20060102T150405Z"

// Token is a parsed token that has not been verified. It is a secret; printing it shows only the
// host and the action.
type Token struct {
	host  string
	query map[string]string // decoded, the signature too

	accessKeyID, day, region, service string // the parts of X-Amz-Credential
}

// Parse parses a token in either of its forms, HOST?… and HOST/?…. It returns an *[Error] if text
// does not have the shape or all the parts of a token.
func Parse(text string) (*Token, error) {
	host, query, found := strings.Cut(text, "?")
	host = strings.TrimSuffix(host, "/")
	switch {
	case !found:
		return nil, fail(Shape, "%d bytes without the ? of HOST?Action=…", len(text))
	case host == "":
		return nil, fail(Shape, "no host before the ?")
	case strings.Contains(host, "/"):
		return nil, fail(Shape, "a scheme or a path before the ?: must be a host only")
	}
	t := &Token{host: host, query: make(map[string]string)}
	for parameter := range strings.SplitSeq(query, "&") {
		if err := t.add(parameter); err != nil {
			return nil, err
		}
	}
	for _, key := range []string{actionKey, algorithmKey, credentialKey, dateKey, expiresKey, signedHeadersKey, signatureKey} {
		if _, ok := t.query[key]; !ok {
			return nil, fail(Shape, "no parameter %s", key)
		}
	}
	scope := strings.Split(t.query[credentialKey], "/")
	if len(scope) != 5 || scope[4] != "aws4_request" {
		return nil, fail(Shape, "%s is not <access key>/<day>/<region>/<service>/aws4_request", credentialKey)
	}
	t.accessKeyID, t.day, t.region, t.service = scope[0], scope[1], scope[2], scope[3]
	return t, nil
}

// add parses one parameter. What it refuses may be a password, so its errors show nothing of it.
func (t *Token) add(parameter string) error {
	rawKey, rawValue, found := strings.Cut(parameter, "=")
	if !found {
		return fail(Shape, "a parameter without a =")
	}
	key, keyErr := url.PathUnescape(rawKey)
	value, valueErr := url.PathUnescape(rawValue)
	if keyErr != nil || valueErr != nil || escape(key) != rawKey || escape(value) != rawValue {
		return fail(Query, "parameter %d is not percent-encoded as SigV4 requires", len(t.query)+1)
	}
	if _, twice := t.query[key]; twice {
		return fail(Query, "parameter %d is a repetition", len(t.query)+1)
	}
	t.query[key] = value
	return nil
}

// Host returns the name that the token is for.
func (t *Token) Host() string { return t.host }

// Region returns the AWS Region that the token is for.
func (t *Token) Region() string { return t.region }

// Action returns the IAM action that the token is for.
func (t *Token) Action() string { return t.query[actionKey] }

// Expiration returns when the token expires, or the zero time if the token has no lifetime that
// [Token.Verify] accepts.
func (t *Token) Expiration() time.Time {
	_, end, err := t.lifetime()
	if err != nil {
		return time.Time{}
	}
	return end
}

func (t *Token) String() string {
	return fmt.Sprintf("token.Token{%.100q for %.100q}", t.Action(), t.host)
}

// GoString returns String, so that %#v shows no secret either.
func (t *Token) GoString() string { return t.String() }
