package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
)

const sigV4 = "AWS4-HMAC-SHA256"

// sign returns the signature that t must have:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
func (t *Token) sign(secret string) string {
	scope := strings.Join([]string{t.day, t.region, t.service, "aws4_request"}, "/")
	request := sha256.Sum256([]byte(t.canonicalRequest()))
	text := strings.Join([]string{sigV4, t.query[dateKey], scope, hex.EncodeToString(request[:])}, "\n")

	key := []byte("AWS4" + secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	return hex.EncodeToString(mac(key, text))
}

func (t *Token) canonicalRequest() string {
	var query []string
	for _, key := range slices.Sorted(maps.Keys(t.query)) {
		if key != signatureKey {
			query = append(query, escape(key)+"="+escape(t.query[key]))
		}
	}
	payload := sha256.Sum256(nil)
	return strings.Join([]string{
		"GET",
		"/",
		strings.Join(query, "&"),
		"host:" + t.host,
		"",
		"host",
		hex.EncodeToString(payload[:]),
	}, "\n")
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// escape percent-encodes all but SigV4's unreserved characters, unlike url.QueryEscape, which
// encodes a space as +.
func escape(s string) string {
	const upperHex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~", c) >= 0:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		}
	}
	return b.String()
}
