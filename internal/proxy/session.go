package proxy

import (
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/go-dsql/dsql/internal/dialect"
)

// internalName names the prepared statement and the portal that the proxy uses for itself.
const internalName = "dsqltest"

// session is an accepted client's session: its transaction and the execution of its statements.
type session struct {
	*relay
	opened time.Time   // by the cluster's clock
	age    *time.Timer // expires the session

	busy          sync.Mutex // held while a client's message is handled; guards what follows
	tx            transaction
	rollbacks     int  // to the savepoint; each has closed the portals
	statusPending bool // a BEGIN, COMMIT or ROLLBACK has not been answered: status is about to change
}

// runSession runs a session until either side ends it.
//
// When the client ends first, its last statements are still executed, as by a real server:
// PostgreSQL reads them all and then the end of file.
func (p *Proxy) runSession(client, server net.Conn, user string) {
	s := &session{relay: newRelay(p, client, server, p.log.newSession(user))}
	s.opened, s.age = p.Faults.now(), time.AfterFunc(p.sessionAge, s.expire)
	defer s.age.Stop()
	p.addSession(s)
	defer p.removeSession(s)

	var replies sync.WaitGroup
	replies.Go(s.replyLoop)
	newFrontend(s).readLoop()
	s.closeWrite(server)
	replies.Wait()
}

// closeWrite signals PostgreSQL that no statement follows. Another session may be rolling this one
// back at the moment.
func (s *session) closeWrite(server net.Conn) {
	s.busy.Lock()
	defer s.busy.Unlock()
	_ = s.server.w.Flush()
	if half, ok := server.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// settle waits until no reply is pending, so that the transaction status is current.
func (s *session) settle() {
	s.waitIdle()
	s.statusPending = false
}

// resetTransaction forgets the previous transaction if the session is in none.
func (s *session) resetTransaction() {
	if !s.inTransaction() {
		s.tx = transaction{}
	}
}

// check returns the error that DSQL refuses a statement with, or nil. A statement that passes
// counts as part of the transaction.
func (s *session) check(st *dialect.Statement) *pgproto3.ErrorResponse {
	if st.Refusal != nil {
		return refusalResponse(st.Refusal)
	}
	if st.OutsideBlock != nil && !s.inTransaction() {
		return refusalResponse(st.OutsideBlock)
	}
	switch st.Kind {
	case dialect.Empty, dialect.Begin, dialect.Commit, dialect.Rollback, dialect.Setting:
		return nil
	}
	if e := s.tx.checkAge(s.proxy.Faults.now(), s.proxy.transactionAge); e != nil {
		return e
	}
	if s.takeCatalogChange() || s.tx.aborted {
		return conflictResponse(schemaConflict)
	}
	return s.tx.add(st.Kind, s.inTransaction())
}

// trackTransaction records that a statement which is about to be forwarded begins or ends a
// transaction.
func (s *session) trackTransaction(kind dialect.Kind) {
	switch kind {
	case dialect.Begin, dialect.Commit, dialect.Rollback:
		s.statusPending = true
	default:
		return
	}
	s.mu.Lock()
	inside, retry := s.status != 'I', s.conflict
	if kind == dialect.Begin {
		s.conflict = false
	}
	s.mu.Unlock()
	switch {
	case kind == dialect.Rollback && inside:
		s.proxy.updateStats(func(st *Stats) { st.Rollbacks++ })
	case kind == dialect.Begin && !inside:
		s.tx = transaction{begun: s.proxy.Faults.now()}
		s.proxy.updateStats(func(st *Stats) {
			st.Begins++
			if retry {
				st.Retries++
			}
		})
	}
}

// setSavepoint sets the savepoint before the transaction's first write. It does not wait for the
// reply.
func (s *session) setSavepoint() {
	s.sendInternal("SAVEPOINT " + internalName)
	s.tx.savepoint = true
}

// rollbackToSavepoint undoes all writes of the transaction; it keeps its snapshot, and the other
// transactions get the rows.
func (s *session) rollbackToSavepoint() {
	s.execInternal("ROLLBACK TO " + internalName)
	s.rollbacks++
}

// execInternal runs a statement that the client did not send and discards the replies. Unlike
// query it keeps the client's unnamed statement and portal.
func (s *session) execInternal(sql string) { s.waitFor(s.sendInternal(sql)) }

func (s *session) sendInternal(sql string) *exchange {
	x := s.expect(&exchange{capture: func(message) bool { return true }})
	s.sendPrepared(&pgproto3.Parse{Query: sql}, &pgproto3.Bind{}, false)
	return x
}

// sendPrepared prepares, binds and executes a statement under internalName, and describes its
// columns if describe is set. It closes the previous one first, which is still open if it failed.
func (s *session) sendPrepared(parse *pgproto3.Parse, bind *pgproto3.Bind, describe bool) {
	parse.Name, bind.PreparedStatement, bind.DestinationPortal = internalName, internalName, internalName
	for _, m := range []pgproto3.Message{
		&pgproto3.Close{ObjectType: 'P', Name: internalName},
		&pgproto3.Close{ObjectType: 'S', Name: internalName},
		parse,
		bind,
	} {
		s.server.send(m)
	}
	if describe {
		s.server.send(&pgproto3.Describe{ObjectType: 'P', Name: internalName})
	}
	s.server.send(&pgproto3.Execute{Portal: internalName})
	s.server.send(&pgproto3.Sync{})
}
