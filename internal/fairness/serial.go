package fairness

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// ErrTimeout says that the turn did not come in time.
var ErrTimeout = errors.New("the serial key was not free in time")

// Serial lets the transactions of a hot key run one after another, first come
// first served. The zero value is ready.
type Serial struct {
	mu   sync.Mutex
	keys map[string][]chan struct{} // who waits, for each key that has a turn taken
	peak int                        // the most keys since the map was made
}

// Acquire waits for the turn of key, if somebody has it, for at most a time or
// until ctx ends. If nobody has it, the turn is taken if hot, and otherwise not
// needed. It reports whether the turn was taken: then Release must follow, also
// when there is an error.
func (s *Serial) Acquire(ctx context.Context, key string, hot bool, atMost time.Duration) (bool, error) {
	s.mu.Lock()
	queue, taken := s.keys[key]
	if !taken {
		if hot {
			s.add(key)
		}
		s.mu.Unlock()
		return hot, nil
	}
	mine := make(chan struct{})
	s.keys[key] = append(queue, mine)
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
	i := slices.Index(s.keys[key], mine)
	if i < 0 {
		return true, err // it came just now
	}
	s.keys[key] = slices.Delete(s.keys[key], i, i+1)
	return false, err
}

// Release gives the turn to who has waited longest. If nobody has, the key is
// forgotten.
func (s *Serial) Release(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if queue := s.keys[key]; len(queue) > 0 {
		s.keys[key] = queue[1:]
		close(queue[0])
		return
	}
	delete(s.keys, key)
	// A map keeps the room of what is deleted.
	if s.peak > 1024 && len(s.keys) < s.peak/4 {
		s.keys = maps.Collect(maps.All(s.keys))
		s.peak = len(s.keys)
	}
}

func (s *Serial) add(key string) {
	if s.keys == nil {
		s.keys = make(map[string][]chan struct{})
	}
	s.keys[key] = nil
	s.peak = max(s.peak, len(s.keys))
}
