package fakepg

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Step is a step in the execution of a statement.
type Step string

// The steps at which Answer is asked. The simple protocol has only Execute, and Sync, which ends the
// implicit transaction of statements outside BEGIN and COMMIT: its SQL is "sync", or "sync failed".
const (
	Parse   Step = "parse"
	Bind    Step = "bind"
	Execute Step = "execute"
	Sync    Step = "sync"
)

// Statement is a statement at one of its steps.
type Statement struct {
	Session int // the connection's number; the first is 1
	InTx    bool
	Step    Step
	SQL     string // lower case, single spaces, no final semicolon
	Args    []int64
}

// Reply is the reply to a statement. The zero Reply succeeds without rows.
type Reply struct {
	Rows [][]int64                 // Execute only; every column is a bigint
	Err  *pgconn.PgError           // sent after the rows
	Cut  bool                      // the connection is closed after the rows, or after Err if CutAfter
	With []pgproto3.BackendMessage // sent before the rows

	CutAfter bool // Execute only: the connection is closed behind the answer, before ReadyForQuery
}

// SQL handles the statements of all sessions of a server: use Session as the hook of that name. It
// tracks each session's transaction status as PostgreSQL does, and answers the COMMIT of a failed
// transaction with ROLLBACK.
type SQL struct {
	// Answer is called for every step of every statement, BEGIN, COMMIT and ROLLBACK included,
	// by one goroutine for each session. If it is nil, all succeed. A COMMIT that becomes a
	// rollback is passed as "rollback".
	Answer func(Statement) Reply

	mu       sync.Mutex
	sessions int
	counts   map[string]int
}

// Sessions returns the number of sessions opened.
func (s *SQL) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

// Count returns how often statements that begin with prefix have been executed.
func (s *SQL) Count(prefix string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for sql, count := range s.counts {
		if strings.HasPrefix(sql, prefix) {
			n += count
		}
	}
	return n
}

// Session serves one connection until it ends.
func (s *SQL) Session(c *Conn) error {
	s.mu.Lock()
	s.sessions++
	session := &sqlSession{sql: s, c: c, number: s.sessions, status: 'I', prepared: map[string]string{}}
	s.mu.Unlock()
	for {
		msg, err := c.Receive()
		if err != nil {
			return err
		}
		if _, ok := msg.(*pgproto3.Terminate); ok {
			return nil
		}
		if err := session.handle(msg); err != nil {
			return err
		}
	}
}

var errCut = errors.New("cut by the script")

type sqlSession struct {
	sql      *SQL
	c        *Conn
	number   int
	status   byte              // as in ReadyForQuery
	skip     bool              // messages until Sync, after an error
	prepared map[string]string // statement name: SQL

	implicit bool // statements have run in an implicit transaction

	portal  string // its SQL
	args    []int64
	formats []int16
}

func (s *sqlSession) handle(msg pgproto3.FrontendMessage) error {
	if _, ok := msg.(*pgproto3.Sync); ok {
		return s.handleSync()
	}
	if s.skip {
		return nil
	}
	switch msg := msg.(type) {
	case *pgproto3.Query:
		return s.handleQuery(msg.String)
	case *pgproto3.Parse:
		sql := normalize(msg.Query)
		s.prepared[msg.Name] = sql
		return s.handleStep(Parse, sql, &pgproto3.ParseComplete{})
	case *pgproto3.Bind:
		s.portal = s.prepared[msg.PreparedStatement]
		s.args = decode(msg.Parameters, msg.ParameterFormatCodes)
		s.formats = append([]int16(nil), msg.ResultFormatCodes...)
		return s.handleStep(Bind, s.portal, &pgproto3.BindComplete{})
	case *pgproto3.Describe:
		s.handleDescribe(msg)
	case *pgproto3.Execute:
		return s.exec(s.portal, s.formats)
	case *pgproto3.Close:
		s.c.Send(&pgproto3.CloseComplete{})
	case *pgproto3.Flush:
		return s.c.Flush()
	default:
		return fmt.Errorf("unexpected %T", msg)
	}
	return nil
}

func (s *sqlSession) handleSync() error {
	if s.implicit {
		s.implicit = false
		sql := "sync"
		if s.skip {
			sql = "sync failed"
		}
		reply := s.answer(Sync, sql)
		if reply.Err != nil && !s.skip {
			s.fail(reply.Err)
		}
		if reply.Cut {
			_ = s.c.Flush()
			return errCut
		}
	}
	s.skip = false
	s.c.Send(&pgproto3.ReadyForQuery{TxStatus: s.status})
	return s.c.Flush()
}

// handleQuery executes the statements of a Query message.
func (s *sqlSession) handleQuery(text string) error {
	s.args = nil
	for part := range strings.SplitSeq(strings.TrimSuffix(strings.TrimSpace(text), ";"), ";") {
		sql := normalize(part)
		if sql == "" {
			s.c.Send(&pgproto3.EmptyQueryResponse{})
			continue
		}
		if n := columns(sql); n > 0 {
			s.c.Send(description(n, nil))
		}
		if err := s.exec(sql, nil); err != nil {
			return err
		}
		if s.skip {
			break
		}
	}
	return s.handleSync()
}

func (s *sqlSession) handleDescribe(msg *pgproto3.Describe) {
	sql, formats := s.portal, s.formats
	if msg.ObjectType == 'S' {
		sql, formats = s.prepared[msg.Name], nil
		oids := make([]uint32, parameters(sql))
		for i := range oids {
			oids[i] = bigint
		}
		s.c.Send(&pgproto3.ParameterDescription{ParameterOIDs: oids})
	}
	if n := columns(sql); n > 0 {
		s.c.Send(description(n, formats))
		return
	}
	s.c.Send(&pgproto3.NoData{})
}

func (s *sqlSession) handleStep(step Step, sql string, done pgproto3.BackendMessage) error {
	reply := s.answer(step, sql)
	if reply.Cut {
		return errCut
	}
	if reply.Err != nil {
		s.fail(reply.Err)
		return nil
	}
	s.c.Send(done)
	return nil
}

func (s *sqlSession) exec(sql string, formats []int16) error {
	word, _, _ := strings.Cut(sql, " ")
	if s.status == 'E' {
		if word != "commit" && word != "rollback" {
			s.fail(&pgconn.PgError{Code: "25P02", Message: "current transaction is aborted, commands ignored until end of transaction block"})
			return nil
		}
		sql, word = "rollback", "rollback"
	}
	if word == "copy" {
		if err := s.copyIn(); err != nil {
			return err
		}
	}
	if s.status == 'I' && word != "begin" && word != "commit" && word != "rollback" {
		s.implicit = true
	}
	reply := s.answer(Execute, sql)
	for _, msg := range reply.With {
		s.c.Send(msg)
	}
	for _, row := range reply.Rows {
		s.c.Send(encode(row, formats))
	}
	if reply.Cut {
		_ = s.c.Flush()
		return errCut
	}
	switch {
	case word == "begin" && reply.Err == nil:
		s.status = 'T'
	case word == "commit" || word == "rollback":
		s.status = 'I'
	}
	if reply.Err != nil {
		s.fail(reply.Err)
	} else {
		s.c.Send(&pgproto3.CommandComplete{CommandTag: []byte(tag(word, len(reply.Rows)))})
	}
	if reply.CutAfter {
		_ = s.c.Flush()
		return errCut
	}
	return nil
}

func (s *sqlSession) copyIn() error {
	s.c.Send(&pgproto3.CopyInResponse{OverallFormat: 1, ColumnFormatCodes: []uint16{1}})
	if err := s.c.Flush(); err != nil {
		return err
	}
	for {
		msg, err := s.c.Receive()
		if err != nil {
			return err
		}
		switch msg.(type) {
		case *pgproto3.CopyDone, *pgproto3.CopyFail:
			return nil
		}
	}
}

func (s *sqlSession) answer(step Step, sql string) Reply {
	if step == Execute {
		s.sql.mu.Lock()
		if s.sql.counts == nil {
			s.sql.counts = map[string]int{}
		}
		s.sql.counts[sql]++
		s.sql.mu.Unlock()
	}
	if s.sql.Answer == nil {
		return Reply{}
	}
	return s.sql.Answer(Statement{Session: s.number, InTx: s.status != 'I', Step: step, SQL: sql, Args: s.args})
}

func (s *sqlSession) fail(err *pgconn.PgError) {
	severity := err.Severity
	if severity == "" {
		severity = "ERROR"
	}
	s.c.Send(&pgproto3.ErrorResponse{
		Severity: severity, SeverityUnlocalized: severity,
		Code: err.Code, Message: err.Message, Detail: err.Detail, Hint: err.Hint, Position: err.Position,
	})
	s.skip = true
	if s.status == 'T' {
		s.status = 'E'
	}
}

var leadingComments = regexp.MustCompile(`^(\s*(--[^\n]*(\n|$)|/\*.*?\*/))*`)

const bigint = 20 // its OID

var parameter = regexp.MustCompile(`\$\d+`)
