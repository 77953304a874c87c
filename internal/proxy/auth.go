package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/go-dsql/dsql/internal/params"
	"github.com/go-dsql/dsql/internal/token"
)

// adminRole is the role that exists in every cluster.
const adminRole = "admin"

// maxPassword is far above any token: one with an STS session token has about 1,800 bytes.
const maxPassword = 1 << 20

// authenticate requests the token and verifies it, the role and the startup parameters. It returns
// the refusal, or an error if the client has gone.
func (p *Proxy) authenticate(client io.ReadWriter, s startup, host string) (*Refusal, error) {
	user := s.parameters["user"]
	if user == "" {
		return &Refusal{
			Reason:  "startup: the message names no user",
			Code:    invalidAuthorization,
			Message: "no PostgreSQL user name specified in startup packet",
		}, nil
	}
	if err := s.negotiate(client); err != nil {
		return nil, err
	}
	if err := writeMessage(client, &pgproto3.AuthenticationCleartextPassword{}); err != nil {
		return nil, err
	}
	password, refusal, err := readPassword(client)
	if err != nil || refusal != nil {
		return refusal, err
	}
	if refusal := p.checkToken(password, user, host); refusal != nil {
		return refusal, nil
	}
	if refusal := p.checkRole(user); refusal != nil {
		return refusal, nil
	}
	database := s.parameters["database"]
	if database == "" {
		database = user // as in PostgreSQL
	}
	if database != databaseName {
		return &Refusal{
			Reason:  fmt.Sprintf("database: %q was requested, the only one is %q", database, databaseName),
			Code:    invalidCatalogName,
			Message: fmt.Sprintf("database %q does not exist", database),
		}, nil
	}
	return checkSettings(s), nil
}

// checkRole returns the refusal if the principal may not connect as the role.
func (p *Proxy) checkRole(user string) *Refusal {
	if user == adminRole {
		return nil
	}
	var reason string
	if err := p.monitor.ask(p, "SELECT sys.refuse_login($1, $2)", []any{user, p.cfg.Principal}, &reason); err != nil {
		return unreachable(err)
	}
	if reason == "" {
		return nil
	}
	return &Refusal{
		Reason:  fmt.Sprintf("role: %q %s; use dsqltest.WithRole, or CREATE ROLE … WITH LOGIN and AWS IAM GRANT", user, reason),
		Code:    invalidAuthorization,
		Message: accessDenied,
	}
}

// checkSettings returns the refusal if the startup message sets a parameter that DSQL refuses, or
// if its options cannot be parsed.
func checkSettings(s startup) *Refusal {
	for _, name := range s.settings() {
		if !params.IsSettable(name) {
			return &Refusal{Reason: "startup: the parameter " + name, Code: featureNotSupported, Message: params.RefusalMessage(name)}
		}
	}
	if s.optionsErr != nil {
		return &Refusal{Reason: "startup: options: " + s.optionsErr.Error(), Code: syntaxError, Message: s.optionsErr.Error()}
	}
	return nil
}

// readPassword reads the password message and not a byte more.
func readPassword(client io.Reader) (string, *Refusal, error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(client, head); err != nil {
		return "", nil, err
	}
	if head[0] != 'p' {
		return "", &Refusal{
			Reason:  fmt.Sprintf("password: the client sent a message of type %q instead", head[0]),
			Code:    protocolViolation,
			Message: fmt.Sprintf("expected password response, got message type %d", head[0]),
		}, nil
	}
	length := binary.BigEndian.Uint32(head[1:])
	if length < 4 || length > maxPassword {
		return "", malformedPassword("its message is %d bytes long", length), nil
	}
	body := make([]byte, length-4)
	if _, err := io.ReadFull(client, body); err != nil {
		return "", nil, err
	}
	switch end := bytes.IndexByte(body, 0); {
	case end == 0:
		return "", malformedPassword("it is empty"), nil
	case end < 0 || end != len(body)-1:
		return "", malformedPassword("its NUL is not at its end"), nil
	default:
		return string(body[:end]), nil, nil
	}
}

func malformedPassword(format string, args ...any) *Refusal {
	return &Refusal{
		Reason:  "password: " + fmt.Sprintf(format, args...),
		Code:    protocolViolation,
		Message: "invalid password packet size",
	}
}

// checkToken returns the refusal if password is not a valid token for user, signed for host. The
// refusal has a hint only where a real cluster was seen to send one.
func (p *Proxy) checkToken(password, user, host string) *Refusal {
	presigned, err := token.Parse(password)
	if err != nil {
		return &Refusal{Reason: "token: " + err.Error(), Code: connectionFailure, Message: accessDenied}
	}
	creds := p.cfg.Credentials()
	now := p.Faults.now()
	err = presigned.Verify(token.Expected{
		Host:            host,
		Region:          p.cfg.Region,
		Action:          actionOf(user),
		AccessKeyID:     creds.AccessKeyID,
		SecretAccessKey: creds.SecretAccessKey,
		SessionToken:    creds.SessionToken,
	}, now)
	if err == nil {
		return nil
	}
	refusal := &Refusal{Reason: "token: " + err.Error(), Code: connectionFailure, Message: accessDenied}
	var cause *token.Error
	if errors.As(err, &cause) {
		refusal.Hint = hint(cause.Check, presigned, user, now)
	}
	return refusal
}

// actionOf returns the IAM action that a role requires.
func actionOf(user string) string {
	if user == adminRole {
		return "DbConnectAdmin"
	}
	return "DbConnect"
}

func hint(check token.Check, presigned *token.Token, user string, now time.Time) string {
	switch check {
	case token.Action:
		return fmt.Sprintf("Wrong user to action mapping. user: %s, action: %s", user, presigned.Action())
	case token.Expired:
		return fmt.Sprintf("Signature expired: %s is now earlier than %s",
			presigned.Expiration().Format(token.TimeFormat), now.UTC().Format(token.TimeFormat))
	}
	return ""
}
