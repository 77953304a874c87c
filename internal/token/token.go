// Package token reads and checks the tokens with which clients open DSQL. A
// token is a presigned SigV4 request, GET https://HOST/?Action=…, without its
// scheme. The signature is computed here from crypto/hmac alone, so that a
// client's signer is checked by another one.
package token

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Check names what is wrong with a token.
type Check string

// The checks, in the order in which they are made.
const (
	Shape         Check = "shape"          // not a token at all, or parts of one are missing
	Query         Check = "query"          // a parameter is there twice, not known, or not encoded as SigV4 does
	Algorithm     Check = "algorithm"      // other than AWS4-HMAC-SHA256
	SignedHeaders Check = "signed headers" // other than host alone
	Service       Check = "service"        // other than dsql, as in a token made for RDS
	Region        Check = "region"         // signed for another Region
	Date          Check = "date"           // not a time, or not on the day of the credential scope
	Expires       Check = "expires"        // not whole seconds, 1 to 604800
	Host          Check = "host"           // signed for another name
	NotYetValid   Check = "not yet valid"  // signed in the future
	Expired       Check = "expired"        // past its lifetime
	AccessKey     Check = "access key"     // nobody's that the server knows
	SessionToken  Check = "session token"  // not the one of the access key
	Signature     Check = "signature"      // made with another key, or the token was changed
	Action        Check = "action"         // not the one for the role
)

// Error is a token's refusal. Its text says what was expected and what was
// given, and holds no secret.
type Error struct {
	Check  Check
	Reason string
}

func (e *Error) Error() string { return string(e.Check) + ": " + e.Reason }

func fail(check Check, format string, args ...any) error {
	return &Error{check, fmt.Sprintf(format, args...)}
}

// The parameters of a token. All but securityToken must be there.
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

// TimeFormat is how SigV4 writes times.
const TimeFormat = "20060102T150405Z"

// Token is a token that has been read and not checked. It is a secret; printing
// it shows the host and the action only.
type Token struct {
	host  string
	query map[string]string // decoded, the signature too

	accessKeyID, day, region, service string // the parts of X-Amz-Credential
}

// Parse reads a token in either of its forms, HOST?… and HOST/?…. It fails with
// an *[Error] if text has not the shape of a token or not all of its parts.
func Parse(text string) (*Token, error) {
	host, query, found := strings.Cut(text, "?")
	host = strings.TrimSuffix(host, "/")
	switch {
	case !found:
		return nil, fail(Shape, "%d bytes without the ? of HOST?Action=…", len(text))
	case host == "":
		return nil, fail(Shape, "no host before the ?")
	case strings.Contains(host, "/"):
		return nil, fail(Shape, "a scheme or a path where only a host may be")
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

// add reads one parameter. What it refuses may be a password that is no token,
// so nothing of it is shown.
func (t *Token) add(parameter string) error {
	rawKey, rawValue, found := strings.Cut(parameter, "=")
	if !found {
		return fail(Shape, "a parameter without a =")
	}
	key, keyErr := url.PathUnescape(rawKey)
	value, valueErr := url.PathUnescape(rawValue)
	if keyErr != nil || valueErr != nil || escape(key) != rawKey || escape(value) != rawValue {
		return fail(Query, "parameter %d is not percent-encoded as SigV4 does it", len(t.query)+1)
	}
	if _, twice := t.query[key]; twice {
		return fail(Query, "parameter %d is there a second time", len(t.query)+1)
	}
	t.query[key] = value
	return nil
}

// Action is the IAM action that the token is for.
func (t *Token) Action() string { return t.query[actionKey] }

// End is when the token's lifetime ends. It is the zero time if the token does
// not say so in a way that [Token.Verify] accepts.
func (t *Token) End() time.Time {
	_, end, err := t.lifetime()
	if err != nil {
		return time.Time{}
	}
	return end
}

func (t *Token) String() string {
	return fmt.Sprintf("token.Token{%.100q for %.100q}", t.Action(), t.host)
}

// GoString is String, so that %#v shows no secret either.
func (t *Token) GoString() string { return t.String() }
