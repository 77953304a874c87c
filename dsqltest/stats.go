package dsqltest

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
func (c *Cluster) Stats() Stats { return Stats(c.proxy.Stats()) }
