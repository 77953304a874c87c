package dsqltest

import (
	"maps"
	"slices"
)

// Stats count what a cluster has seen since it started.
type Stats struct {
	Connects  int // sessions that were let in
	Begins    int // transactions that were begun with BEGIN
	Commits   int // COMMITs that were carried out
	Rollbacks int // ROLLBACKs, and COMMITs of failed transactions
	Conflicts int // answers of 40001, at COMMIT or at a statement
	Retries   int // transactions that were begun on a session whose last one met a conflict
}

// Stats returns the counts so far.
func (c *Cluster) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

func (c *Cluster) count(f func(*Stats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.stats)
}

func (c *Cluster) add(v *conversation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live[v] = struct{}{}
}

func (c *Cluster) remove(v *conversation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.live, v)
}

func (c *Cluster) conversations() []*conversation {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.live))
}
