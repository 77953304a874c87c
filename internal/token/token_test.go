package token

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/feature/dsql/auth"
	"github.com/stretchr/testify/require"
)

// golden is a token made by an independent signer.
type golden struct {
	Endpoint        string
	Region          string
	Action          string
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string
	SignedAt        time.Time
	ExpiresIn       int
	Token           string
}

func (g golden) expected() Expected {
	return Expected{
		Host:            g.Endpoint,
		Region:          g.Region,
		Action:          g.Action,
		AccessKeyID:     g.AccessKeyID,
		SecretAccessKey: g.SecretAccessKey,
		SessionToken:    g.SessionToken,
	}
}

func readGolden(t *testing.T) []golden {
	t.Helper()
	text, err := os.ReadFile("../../testdata/tokens.json")
	require.NoError(t, err)
	var tokens []golden
	require.NoError(t, json.Unmarshal(text, &tokens))
	require.NotEmpty(t, tokens)
	return tokens
}

// verify reads and checks in one step.
func verify(text string, want Expected, now time.Time) error {
	token, err := Parse(text)
	if err != nil {
		return err
	}
	return token.Verify(want, now)
}

func requireCheck(t *testing.T, want Check, err error) {
	t.Helper()
	var refusal *Error
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, want, refusal.Check, err.Error())
}

func TestGoldenTokensVerifyForTheirLifetime(t *testing.T) {
	for _, g := range readGolden(t) {
		end := g.SignedAt.Add(time.Duration(g.ExpiresIn) * time.Second)
		for _, form := range []string{g.Token, strings.Replace(g.Token, "/?", "?", 1)} {
			require.NoError(t, verify(form, g.expected(), g.SignedAt), form)
			require.NoError(t, verify(form, g.expected(), end), form)
			require.NoError(t, verify(form, g.expected(), g.SignedAt.Add(-ClockSkew)), form)
			requireCheck(t, Expired, verify(form, g.expected(), end.Add(time.Second)))
			requireCheck(t, NotYetValid, verify(form, g.expected(), g.SignedAt.Add(-ClockSkew-time.Second)))
		}
		token, err := Parse(g.Token)
		require.NoError(t, err)
		require.Equal(t, end, token.Expiration())
		require.Equal(t, g.Action, token.Action())
	}
}

func TestAGoldenTokenWithOneCharacterChangedDoesNotVerify(t *testing.T) {
	for _, g := range readGolden(t) {
		if g.ExpiresIn != 900 {
			continue // the same token with another number in it
		}
		slash := strings.Index(g.Token, "/?")
		for i := range len(g.Token) {
			c := g.Token[i]
			head, tail := g.Token[:i], g.Token[i+1:]
			changed := []string{
				head + string(c^0x20) + tail, // the other case of a letter
				head + string(c^0x01) + tail, // the digit or letter beside it
				head + "%" + tail,
				head + "&" + tail,
				head + string(c) + "0" + tail,
				head + fmt.Sprintf("%%%02X", c) + tail, // means the same and is written otherwise
			}
			if i != slash {
				changed = append(changed, head+tail)
			}
			for _, text := range changed {
				if text != g.Token && verify(text, g.expected(), g.SignedAt) == nil {
					t.Fatalf("verifies although changed at %d:\n%s\n%s", i, g.Token, text)
				}
			}
		}
	}
}

func TestATokenForAnythingOtherThanExpectedDoesNotVerify(t *testing.T) {
	for _, g := range readGolden(t) {
		for check, change := range map[Check]func(*Expected){
			Host:         func(e *Expected) { e.Host = "zzzzzzzzzzzzzzzzzzzzzzzzzz.dsql.us-east-1.on.aws" },
			Region:       func(e *Expected) { e.Region = "sa-east-1" },
			Action:       func(e *Expected) { e.Action = "DbConnectOther" },
			AccessKey:    func(e *Expected) { e.AccessKeyID = "AKIAOTHER" },
			SessionToken: func(e *Expected) { e.SessionToken += "x" },
			Signature:    func(e *Expected) { e.SecretAccessKey += "x" },
		} {
			want := g.expected()
			change(&want)
			requireCheck(t, check, verify(g.Token, want, g.SignedAt))
		}
	}
}

const (
	host   = "abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws"
	secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func expected() Expected {
	return Expected{Host: host, Region: "us-east-1", Action: "DbConnect", AccessKeyID: "AKIAEXAMPLE", SecretAccessKey: secret}
}

// request is what a client signs, with the SDK's general signer.
type request struct {
	host    string
	query   url.Values
	service string
	region  string
	headers http.Header
	session string
	secret  string
	at      time.Time
}

func signed(t *testing.T, change func(*request)) string {
	t.Helper()
	r := request{
		host:    host,
		query:   url.Values{"Action": {"DbConnect"}, "X-Amz-Expires": {"900"}},
		service: "dsql",
		region:  "us-east-1",
		secret:  secret,
		at:      now,
	}
	change(&r)
	req, err := http.NewRequest(http.MethodGet, "https://"+r.host+"/?"+r.query.Encode(), nil)
	require.NoError(t, err)
	req.Header = r.headers
	if req.Header == nil {
		req.Header = http.Header{}
	}
	creds := aws.Credentials{AccessKeyID: "AKIAEXAMPLE", SecretAccessKey: r.secret, SessionToken: r.session}
	const emptyPayload = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	uri, _, err := v4.NewSigner().PresignHTTP(context.Background(), creds, req, emptyPayload, r.service, r.region, r.at)
	require.NoError(t, err)
	return strings.TrimPrefix(uri, "https://")
}

func unchanged(*request) {}

func TestASignedTokenVerifies(t *testing.T) {
	require.NoError(t, verify(signed(t, unchanged), expected(), now))
}

// Each token is rightly signed and wrong in one thing.
func TestEachCheckHasItsOwnReason(t *testing.T) {
	expires := func(v string) func(*request) {
		return func(r *request) { r.query.Set("X-Amz-Expires", v) }
	}
	tests := map[string]struct {
		change func(*request)
		check  Check
		reason string
	}{
		"token for RDS":          {func(r *request) { r.service = "rds-db"; r.query.Set("DBUser", "app") }, Service, `signed for "rds-db", not "dsql"`},
		"other region":           {func(r *request) { r.region = "eu-west-1" }, Region, `signed for "eu-west-1", the cluster is in "us-east-1"`},
		"other host":             {func(r *request) { r.host = "other.dsql.us-east-1.on.aws" }, Host, `signed for "other.dsql.us-east-1.on.aws"`},
		"host with port":         {func(r *request) { r.host += ":5432" }, Host, `.on.aws:5432", the cluster was reached as`},
		"upper-case host":        {func(r *request) { r.host = strings.ToUpper(r.host) }, Host, `"ABC`},
		"a header more":          {func(r *request) { r.headers = http.Header{"X-Other": {"1"}} }, SignedHeaders, `"host;x-other", not "host"`},
		"a parameter more":       {func(r *request) { r.query.Set("DBUser", "app") }, Query, `"DBUser" is not a parameter of a token`},
		"future":                 {func(r *request) { r.at = now.Add(ClockSkew + time.Second) }, NotYetValid, "signed at 20260102T030906Z, the time is 20260102T030405Z"},
		"past":                   {func(r *request) { r.at = now.Add(-901 * time.Second) }, Expired, "expired at 20260102T030404Z, the time is 20260102T030405Z"},
		"lifetime zero":          {expires("0"), Expires, `"0" is not whole seconds from 1 to 604800`},
		"lifetime negative":      {expires("-60"), Expires, `"-60" is not`},
		"lifetime over a week":   {expires("604801"), Expires, `"604801" is not`},
		"lifetime not whole":     {expires("1.5"), Expires, `"1.5" is not`},
		"lifetime with a sign":   {expires("+60"), Expires, `"+60" is not`},
		"lifetime with zeros":    {expires("0060"), Expires, `"0060" is not`},
		"lifetime empty":         {expires(""), Expires, `"" is not`},
		"lifetime past any int":  {expires("99999999999999999999"), Expires, `"99999999999999999999" is not`},
		"session token not ours": {func(r *request) { r.session = "SECRETSESSION" }, SessionToken, "present, but the access key has none"},
		"other secret key":       {func(r *request) { r.secret = "other" }, Signature, "another secret key, or modified after signing"},
		"admin's action":         {func(r *request) { r.query.Set("Action", "DbConnectAdmin") }, Action, `signed for "DbConnectAdmin", the role needs "DbConnect"`},
		"no such action":         {func(r *request) { r.query.Set("Action", "connect") }, Action, `signed for "connect"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := verify(signed(t, test.change), expected(), now)
			requireCheck(t, test.check, err)
			require.ErrorContains(t, err, test.reason)
		})
	}
}

func TestTextThatIsNoTokenIsRefusedWithoutShowingIt(t *testing.T) {
	token := signed(t, unchanged)
	without := func(parameter string) string {
		head, query, _ := strings.Cut(token, "?")
		var kept []string
		for p := range strings.SplitSeq(query, "&") {
			if !strings.HasPrefix(p, parameter+"=") {
				kept = append(kept, p)
			}
		}
		return head + "?" + strings.Join(kept, "&")
	}
	tests := map[string]struct {
		text   string
		check  Check
		reason string
	}{
		"empty":                {"", Shape, "0 bytes without the ?"},
		"a password":           {"s3cr3t!", Shape, "7 bytes without the ?"},
		"a password with ?":    {"s3cr3t?s3cr3t", Shape, "a parameter without a ="},
		"a password with ? =":  {"s3cr3t?s3cr3t=s3cr3t", Shape, "no parameter Action"},
		"no host":              {"?" + token, Shape, "no host"},
		"a scheme":             {"https://" + token, Shape, "a scheme or a path"},
		"a path":               {strings.Replace(token, "?", "path?", 1), Shape, "a scheme or a path"},
		"two slashes":          {strings.Replace(token, "/?", "//?", 1), Shape, "a scheme or a path"},
		"no query":             {host + "/?", Shape, "a parameter without a ="},
		"no action":            {without("Action"), Shape, "no parameter Action"},
		"no algorithm":         {without("X-Amz-Algorithm"), Shape, "no parameter X-Amz-Algorithm"},
		"no credential":        {without("X-Amz-Credential"), Shape, "no parameter X-Amz-Credential"},
		"no date":              {without("X-Amz-Date"), Shape, "no parameter X-Amz-Date"},
		"no lifetime":          {without("X-Amz-Expires"), Shape, "no parameter X-Amz-Expires"},
		"no signed headers":    {without("X-Amz-SignedHeaders"), Shape, "no parameter X-Amz-SignedHeaders"},
		"no signature":         {without("X-Amz-Signature"), Shape, "no parameter X-Amz-Signature"},
		"short scope":          {strings.Replace(token, "%2Faws4_request", "", 1), Shape, "X-Amz-Credential is not"},
		"scope of another end": {strings.Replace(token, "aws4_request", "aws5_request", 1), Shape, "X-Amz-Credential is not"},
		"action twice":         {token + "&Action=DbConnect", Query, "parameter 8 is a repetition"},
		"lower-case escapes":   {strings.Replace(token, "%2F", "%2f", 1), Query, "parameter 3 is not percent-encoded"},
		"no escapes":           {strings.Replace(token, "%2F", "/", 1), Query, "parameter 3 is not percent-encoded"},
		"broken escape":        {strings.Replace(token, "%2F", "%zz", 1), Query, "parameter 3 is not percent-encoded"},
		"escaped twice":        {strings.Replace(token, "%2F", "%252F", -1), Shape, "X-Amz-Credential is not"},
		"other algorithm":      {strings.Replace(token, "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256", 1), Algorithm, `"AWS4-ECDSA-P256-SHA256", not "AWS4-HMAC-SHA256"`},
		"day of another date":  {strings.Replace(token, "%2F20260102%2F", "%2F20260103%2F", 1), Date, `the credential scope is for the day "20260103"`},
		"date of another form": {strings.Replace(token, "20260102T030405Z", "2026-01-02", 1), Date, `"2026-01-02" is not a time`},
		"no such date":         {strings.Replace(token, "20260102T030405Z", "20261302T030405Z", 1), Date, `"20261302T030405Z" is not a time`},
		"fraction of a second": {strings.Replace(token, "20260102T030405Z", "20260102T030405.5Z", 1), Date, `is not a time`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := verify(test.text, expected(), now)
			requireCheck(t, test.check, err)
			require.ErrorContains(t, err, test.reason)
			require.NotContains(t, err.Error(), "s3cr3t")
		})
	}
}

func TestTokensOfTheSDKVerify(t *testing.T) {
	signers := map[string]func(context.Context, string, string, aws.CredentialsProvider, ...func(*auth.TokenOptions)) (string, error){
		"DbConnect":      auth.GenerateDbConnectAuthToken,
		"DbConnectAdmin": auth.GenerateDBConnectAdminAuthToken,
	}
	for action, sign := range signers {
		for _, session := range []string{"", "IQoJ b3JpZ2lu+X2VjE//=&%~*é"} {
			creds := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: "AKIAEXAMPLE", SecretAccessKey: secret, SessionToken: session}, nil
			})
			token, err := sign(t.Context(), host, "us-east-1", creds)
			require.NoError(t, err)
			want := expected()
			want.Action, want.SessionToken = action, session
			require.NoError(t, verify(token, want, time.Now()), token)

			want.SessionToken = "another"
			requireCheck(t, SessionToken, verify(token, want, time.Now()))
		}
	}
}

func TestNothingPrintedHoldsASecret(t *testing.T) {
	text := signed(t, func(r *request) { r.session = "SECRETSESSION" })
	token, err := Parse(text)
	require.NoError(t, err)
	signature := text[strings.Index(text, "X-Amz-Signature=")+len("X-Amz-Signature="):]

	printed := fmt.Sprintf("%v %+v %#v %s", token, token, token, token)
	want := expected()
	printed += fmt.Sprint(token.Verify(want, now))
	want.SessionToken = "SECRETOTHER"
	printed += fmt.Sprint(token.Verify(want, now))
	want.SessionToken, want.SecretAccessKey = "SECRETSESSION", "SECRETKEY"
	printed += fmt.Sprint(token.Verify(want, now))
	require.Contains(t, printed, "signature: does not match")
	require.NotContains(t, printed, "SECRET")
	require.NotContains(t, printed, signature)
	require.NotContains(t, printed, "AKIAEXAMPLE")
}

func TestATokenWithoutALifetimeHasNoEnd(t *testing.T) {
	token, err := Parse(signed(t, func(r *request) { r.query.Set("X-Amz-Expires", "0") }))
	require.NoError(t, err)
	require.Zero(t, token.Expiration())
}

func FuzzParse(f *testing.F) {
	f.Add("")
	f.Add("host/?Action=DbConnect&X-Amz-Date=%")
	f.Add(host + "?Action=DbConnect&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F20260102%2Fus-east-1%2Fdsql%2Faws4_request" +
		"&X-Amz-Date=20260102T030405Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Signature=00")
	f.Fuzz(func(t *testing.T, text string) {
		err := verify(text, expected(), now)
		var refusal *Error
		if !errors.As(err, &refusal) {
			t.Fatalf("verifies, or fails with something else than an Error: %v", err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	text := host + "?Action=DbConnect&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAEXAMPLE%2F20260102%2Fus-east-1%2Fdsql%2Faws4_request" +
		"&X-Amz-Date=20260102T030405Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Signature=00"
	for b.Loop() {
		requireSignature(b, verify(text, expected(), now))
	}
}

func requireSignature(b *testing.B, err error) {
	var refusal *Error
	if !errors.As(err, &refusal) || refusal.Check != Signature {
		b.Fatal(err)
	}
}
