// Package credcache loads the AWS configuration, requests its credentials once for all waiting
// connections, and survives providers that hang or panic.
package credcache

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const (
	// CallTimeout abandons a call that hangs, so that the next one asks again.
	CallTimeout = 30 * time.Second
	// minLife is what credentials must have left for a token to reach the cluster before it expires
	// with them.
	minLife = 5 * time.Second
	// renewalPause is how long credentials that expire soon are not asked for again.
	renewalPause = time.Second
	// refusedPause is how long credentials whose tokens are refused are not asked for again: the
	// cause may be the clock.
	refusedPause = time.Minute
)

// expiresSoon reports whether creds have minLife left or less.
func expiresSoon(creds aws.Credentials) bool {
	return creds.CanExpire && time.Until(creds.Expires) <= minLife
}

// Cache asks a provider once per credential lifetime, for all connections that wait.
// Unlike the SDK's cache it gives up a call that hangs, returns a panic as an error, and pauses
// before it asks again for credentials that expire soon.
type Cache struct {
	Provider aws.CredentialsProvider

	mu      sync.Mutex
	creds   *aws.Credentials // the last answer, behind a pointer that is printed as an address
	err     error
	asked   time.Time     // when it came
	refused time.Time     // when Refused last had an effect
	stale   bool          // the last answer is not used again
	pending chan struct{} // closed by the answer under way; nil: none is
}

// Retrieve returns credentials that can open a connection now. It waits for at most timeout.
func (c *Cache) Retrieve(ctx context.Context, timeout time.Duration) (aws.Credentials, error) {
	creds, err := c.retrieve(ctx, timeout)
	if err != nil {
		return aws.Credentials{}, Failure(err, timeout)
	}
	if err := check(creds); err != nil {
		return aws.Credentials{}, err
	}
	return creds, nil
}

// retrieve returns credentials, which may have expired.
func (c *Cache) retrieve(ctx context.Context, timeout time.Duration) (aws.Credentials, error) {
	c.mu.Lock()
	if c.isUsable() {
		defer c.mu.Unlock()
		return *c.creds, nil
	}
	if c.pending == nil {
		c.pending = make(chan struct{})
		c.ask(ctx, c.pending)
	}
	pending := c.pending
	c.mu.Unlock()
	waiting, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case <-pending:
		c.mu.Lock()
		defer c.mu.Unlock()
		return *c.creds, c.err
	case <-waiting.Done():
		return aws.Credentials{}, waiting.Err()
	}
}

// Refused says that a token of the last answer was refused: the next connection asks again, at most
// once in refusedPause. If it gets no credentials, the last ones are used again.
func (c *Cache) Refused() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.refused) < refusedPause {
		return
	}
	c.refused, c.stale = time.Now(), true
	if cache, ok := c.Provider.(concealedCache); ok {
		cache().Invalidate()
	}
}

// isUsable reports whether the last answer serves once more. A cache of the caller's is asked each
// time, as the caller may invalidate it.
func (c *Cache) isUsable() bool {
	if c.creds == nil || c.err != nil || c.stale || !c.creds.HasKeys() {
		return false
	}
	if expiresSoon(*c.creds) {
		return time.Since(c.asked) < renewalPause
	}
	_, isCache := c.Provider.(concealedCache)
	return !isCache
}

// ask starts a call whose answer, or its absence after CallTimeout, closes pending.
func (c *Cache) ask(ctx context.Context, pending chan struct{}) {
	// The call serves every connection that waits, not only the one that began it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), CallTimeout)
	answer := func(creds aws.Credentials, err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.pending != pending { // abandoned
			return
		}
		if keep := c.stale && err != nil && c.err == nil && !expiresSoon(*c.creds); !keep {
			c.creds, c.err = &creds, err
		}
		c.stale, c.asked, c.pending = false, time.Now(), nil
		close(pending)
	}
	abandon := context.AfterFunc(ctx, func() { answer(aws.Credentials{}, ctx.Err()) })
	go func() {
		defer cancel()
		defer func() {
			if r := recover(); r != nil {
				answer(aws.Credentials{}, fmt.Errorf("dsql: the credentials provider panicked with a %T", r))
			}
		}()
		creds, err := c.Provider.Retrieve(ctx)
		if cache, ok := c.Provider.(concealedCache); ok && err == nil && expiresSoon(creds) {
			cache().Invalidate() // it may hold them to their last second
			creds, err = cache.Retrieve(ctx)
		}
		if abandon() {
			answer(creds, err)
		}
	}()
}

// Conceal returns p as a function, which fmt prints as an address even where it follows pointers.
func Conceal(p aws.CredentialsProvider) aws.CredentialsProvider {
	switch p := p.(type) {
	case *aws.CredentialsCache:
		return concealedCache(func() *aws.CredentialsCache { return p })
	case concealedCache, aws.CredentialsProviderFunc:
		return p
	}
	return aws.CredentialsProviderFunc(p.Retrieve)
}

type concealedCache func() *aws.CredentialsCache

func (c concealedCache) Retrieve(ctx context.Context) (aws.Credentials, error) {
	return c().Retrieve(ctx)
}
