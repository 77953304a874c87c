package fairness

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// ErrTimeout says that the key was not free in time.
var ErrTimeout = errors.New("the serial key was not free in time")

// Serial limits how many transactions of a hot key run at once, first come first served. The zero
// value is ready.
//
// A key without conflicts has no limit and no entry. A conflict limits it to one at a time. After
// some commits without a conflict two may run, then four, and so on, until none waits any more
// and the entry is gone; a conflict sets the limit to one again, and makes the next try wait twice
// as long.
type Serial struct {
	mu   sync.Mutex
	keys map[any]*serialKey
	peak int // the most keys since the map was made
}

type serialKey struct {
	limit    int
	running  int // those that hold the key
	clean    int // commits without a conflict since the limit changed
	patience int // how many of them let more run
	queue    []chan struct{}
}

const (
	minPatience = 8
	maxPatience = 128
	maxLimit    = 1 << 20 // all
)

// Acquire waits for the caller's turn if key is limited, at most for atMost or until ctx ends.
// conflict says that the caller has just conflicted, which limits key to one transaction at a time.
// Acquire reports whether the caller holds the key: then Release must follow, also when there is an
// error. key must be comparable.
func (s *Serial) Acquire(ctx context.Context, key any, conflict bool, atMost time.Duration) (bool, error) {
	s.mu.Lock()
	k := s.keys[key]
	if conflict {
		k = s.limit(key)
	}
	if k == nil || k.running < k.limit && len(k.queue) == 0 {
		if k != nil {
			k.running++
		}
		s.mu.Unlock()
		return k != nil, nil
	}
	mine := make(chan struct{})
	k.queue = append(k.queue, mine)
	s.mu.Unlock()

	timer := time.NewTimer(atMost)
	defer timer.Stop()
	err := ErrTimeout
	select {
	case <-mine:
		return true, nil
	case <-timer.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(k.queue, mine)
	if i < 0 {
		return true, err // it came just now
	}
	k.queue = slices.Delete(k.queue, i, i+1)
	return false, err
}

// Conflict limits key to one transaction at a time. The caller holds it, and keeps it.
func (s *Serial) Conflict(key any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit(key)
}

// limit returns the entry of a key that had a conflict.
func (s *Serial) limit(key any) *serialKey {
	k := s.keys[key]
	if k == nil {
		k = &serialKey{patience: minPatience}
		if s.keys == nil {
			s.keys = make(map[any]*serialKey)
		}
		s.keys[key] = k
		s.peak = max(s.peak, len(s.keys))
	}
	if k.limit > 1 {
		k.patience = min(2*k.patience, maxPatience)
	}
	k.limit, k.clean = 1, 0
	return k
}

// Release gives the key back, after a commit without a conflict or after another end.
func (s *Serial) Release(key any, clean bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[key]
	k.running--
	if clean {
		k.clean++
	}
	if k.clean >= k.patience {
		k.clean = 0
		k.limit = min(2*k.limit, maxLimit)
	}
	k.next()
	if k.running > 0 {
		return
	}
	delete(s.keys, key)
	// A map keeps the room of what is deleted.
	if s.peak > 1024 && len(s.keys) < s.peak/4 {
		keys := make(map[any]*serialKey, len(s.keys))
		for key, k := range s.keys {
			keys[key] = k
		}
		s.keys, s.peak = keys, len(keys)
	}
}

// next lets in as many as the limit allows.
func (k *serialKey) next() {
	for k.running < k.limit && len(k.queue) > 0 {
		k.running++
		close(k.queue[0])
		k.queue = k.queue[1:]
	}
}
