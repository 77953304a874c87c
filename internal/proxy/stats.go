package proxy

// Stats counts what a cluster has seen since it started.
type Stats struct {
	Connects  int // sessions opened
	Begins    int // transactions started with BEGIN
	Commits   int // COMMITs applied
	Rollbacks int // ROLLBACKs, and COMMITs of failed transactions
	Conflicts int // 40001 sent, at COMMIT or at a statement
	Retries   int // transactions started on a session whose previous one hit a conflict
}

// Stats returns the counts so far.
func (p *Proxy) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

func (p *Proxy) updateStats(f func(*Stats)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.stats)
}
