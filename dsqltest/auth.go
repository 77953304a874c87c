package dsqltest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/go-dsql/dsql/internal/dialect"
	"github.com/go-dsql/dsql/internal/token"
)

// maxPassword is far over any token: an STS session makes about 1,800 bytes.
const maxPassword = 1 << 20

// authenticate asks for the token and checks it. It returns why the client is
// refused, or an error if the client has gone.
func (c *Cluster) authenticate(client io.ReadWriter, s startup, host string) (*Refusal, error) {
	user := s.parameters["user"]
	if user == "" {
		return &Refusal{
			Reason:  "the startup message names no user",
			Code:    invalidAuthorization,
			Message: "no PostgreSQL user name specified in startup packet",
		}, nil
	}
	if err := s.negotiate(client); err != nil {
		return nil, err
	}
	if err := send(client, &pgproto3.AuthenticationCleartextPassword{}); err != nil {
		return nil, err
	}
	password, refusal, err := readPassword(client)
	if err != nil || refusal != nil {
		return refusal, err
	}
	if refusal := c.checkToken(password, user, host); refusal != nil {
		return refusal, nil
	}
	if refusal := c.checkRole(user); refusal != nil {
		return refusal, nil
	}
	database := s.parameters["database"]
	if database == "" {
		database = user // as in PostgreSQL
	}
	if database != databaseName {
		return &Refusal{
			Reason:  fmt.Sprintf("database: %q was asked for, there is only %q", database, databaseName),
			Code:    invalidCatalogName,
			Message: fmt.Sprintf("database %q does not exist", database),
		}, nil
	}
	return checkSettings(s), nil
}

// checkRole tells why the principal may not be a role.
func (c *Cluster) checkRole(user string) *Refusal {
	if user == adminRole {
		return nil
	}
	reason, err := c.engine.Ask(c.ctx, c.database, "SELECT sys.refuse_login($1, $2)", user, principal)
	if err != nil {
		return unreachable(err)
	}
	if reason == "" {
		return nil
	}
	return &Refusal{
		Reason:  fmt.Sprintf("role: %q %s; dsqltest.WithRole, or CREATE ROLE … WITH LOGIN and AWS IAM GRANT, lets it in", user, reason),
		Code:    invalidAuthorization,
		Message: accessDenied,
	}
}

// checkSettings tells which parameter of the startup message DSQL does not take.
func checkSettings(s startup) *Refusal {
	for _, name := range s.settings() {
		if message := dialect.RefuseSetting(name); message != "" {
			return &Refusal{Reason: "startup: the parameter " + name, Code: featureNotSupported, Message: message}
		}
	}
	return nil
}

// readPassword reads the client's answer, not a byte too many.
func readPassword(client io.Reader) (string, *Refusal, error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(client, head); err != nil {
		return "", nil, err
	}
	if head[0] != 'p' {
		return "", &Refusal{
			Reason:  fmt.Sprintf("password: the client sent a message of type %q in its place", head[0]),
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

// checkToken tells what is wrong with a token for user, signed for host. A hint
// is given only where one has been seen on a real cluster.
func (c *Cluster) checkToken(password, user, host string) *Refusal {
	presigned, err := token.Parse(password)
	if err != nil {
		return &Refusal{Reason: "token: " + err.Error(), Code: connectionFailure, Message: accessDenied}
	}
	creds := c.credentials()
	now := c.faults.now()
	err = presigned.Verify(token.Expected{
		Host:            host,
		Region:          c.region,
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

// actionOf is the IAM action that a role needs.
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
			presigned.End().Format(token.TimeFormat), now.UTC().Format(token.TimeFormat))
	}
	return ""
}
