// Package keep has a local cluster in a directory: what dsql serve --data keeps from run to run, so
// that the environment of an earlier run is still valid.
package keep

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-dsql/dsql/internal/endpoint"
	"github.com/go-dsql/dsql/internal/postgres"
	"github.com/go-dsql/dsql/internal/proxy"
)

// lockTimeout is how long Open waits for the end of a server whose process was killed.
const lockTimeout = 5 * time.Second

const stateFile, lockFile = "cluster.json", "lock"

// Identity is what a cluster's clients know of it.
type Identity struct {
	ClusterID       string
	Region          string
	AccessKeyID     string
	SecretAccessKey string
}

// state is the content of cluster.json.
type state struct {
	Identity
	Authority string            // PEM of the certificate authority and its key
	Postgres  string            // of postgres.StartKept; empty: the cluster has never been ready
	Schema    map[string]string // SHA-256 of the files that were applied, by name
}

// Dir is an open directory. It is not safe for concurrent use.
type Dir struct {
	path  string
	lock  *os.File
	state state
	made  string // by Start
}

// Open opens the cluster in a directory, or makes it one with an identity in which wanted decides
// what it sets. An identity that exists must not contradict wanted. Call Close.
func Open(ctx context.Context, path string, wanted Identity) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("dsql: %w", err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("dsql: creating the data directory: %w", err)
	}
	if err := checkOurs(path); err != nil { // before anything is written to it
		return nil, err
	}
	d := &Dir{path: path}
	if d.lock, err = lock(ctx, filepath.Join(path, lockFile)); err != nil {
		return nil, err
	}
	if err := d.load(wanted); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (d *Dir) load(wanted Identity) error {
	text, err := os.ReadFile(filepath.Join(d.path, stateFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return d.create(wanted)
	case err != nil:
		return fmt.Errorf("dsql: opening the data directory: %w", err)
	}
	return d.read(text, wanted)
}

// checkOurs refuses a directory with foreign files.
func checkOurs(path string) error {
	if _, err := os.Stat(filepath.Join(path, stateFile)); err == nil {
		return nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("dsql: opening the data directory: %w", err)
	}
	for _, e := range entries {
		if e.Name() != lockFile && e.Name() != stateFile+".new" {
			return fmt.Errorf("dsql: the directory %s has files and no %s of an earlier run: use a new directory, or an empty one", path, stateFile)
		}
	}
	return nil
}

func (d *Dir) create(wanted Identity) error {
	d.state.Identity = wanted
	setDefault(&d.state.ClusterID, strings.ToLower(rand.Text()))
	setDefault(&d.state.Region, "us-east-1")
	setDefault(&d.state.AccessKeyID, "AKIA"+rand.Text()[:16])
	setDefault(&d.state.SecretAccessKey, (rand.Text() + rand.Text())[:40])
	authority, err := proxy.NewAuthority()
	if err != nil {
		return err
	}
	d.state.Authority = string(authority)
	return nil
}

func setDefault(s *string, value string) {
	if *s == "" {
		*s = value
	}
}

func (d *Dir) read(text []byte, wanted Identity) error {
	if err := json.Unmarshal(text, &d.state); err != nil || !d.state.valid() {
		return fmt.Errorf("dsql: the directory %s is damaged: %s cannot be read: restore it, or use a new directory", d.path, stateFile)
	}
	has := d.state.Identity
	for _, flag := range []struct{ name, wanted, has string }{
		{"cluster ID " + has.ClusterID, wanted.ClusterID, has.ClusterID},
		{"Region " + has.Region, wanted.Region, has.Region},
		{"access key " + has.AccessKeyID, wanted.AccessKeyID, has.AccessKeyID},
		{"access key " + has.AccessKeyID + " with another secret", wanted.SecretAccessKey, has.SecretAccessKey},
	} {
		if flag.wanted != "" && flag.wanted != flag.has {
			return fmt.Errorf("dsql: the cluster in %s has the %s: leave the flag out, or use a new directory", d.path, flag.name)
		}
	}
	if d.state.Postgres == "" {
		d.state.Schema = nil // the first run did not become ready and is repeated
	}
	return nil
}

// valid reports whether s can be of an earlier run. Names of files contain the ID.
func (s state) valid() bool {
	_, err := tls.X509KeyPair([]byte(s.Authority), []byte(s.Authority))
	return err == nil && endpoint.IsClusterID(s.ClusterID) && endpoint.IsRegion(s.Region)
}

// save replaces cluster.json as a whole, durably.
func (d *Dir) save() error {
	text, err := json.MarshalIndent(d.state, "", "\t")
	if err != nil {
		return fmt.Errorf("dsql: %w", err)
	}
	file := filepath.Join(d.path, stateFile)
	if err := writeSynced(file+".new", append(text, '\n')); err != nil {
		return fmt.Errorf("dsql: writing %s: %w", file, err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("dsql: %w", err)
	}
	dir, err := os.Open(d.path)
	if err != nil {
		return fmt.Errorf("dsql: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("dsql: %w", err)
	}
	return nil
}

func writeSynced(file string, text []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// Identity returns what clients know.
func (d *Dir) Identity() Identity { return d.state.Identity }

// Authority returns the certificate authority and its key.
func (d *Dir) Authority() []byte { return []byte(d.state.Authority) }

// Start starts the directory's PostgreSQL. The caller stops it before Close.
func (d *Dir) Start(ctx context.Context) (*postgres.Server, error) {
	if d.state.Postgres == "" {
		if err := d.save(); err != nil {
			return nil, err
		}
	}
	server, made, err := postgres.StartKept(ctx, d.path, d.lock, d.state.Postgres)
	d.made = made
	return server, err
}

// Ready marks the cluster as kept. The next run replaces one that never became ready.
func (d *Dir) Ready() error {
	d.state.Postgres = d.made
	return d.save()
}

// Pending returns the names of those files of a schema that have not been applied. It is an error
// if one that has been has changed since.
func (d *Dir) Pending(files map[string]string) ([]string, error) {
	var pending []string
	for name, text := range files {
		switch sum, applied := d.state.Schema[name]; {
		case !applied:
			pending = append(pending, name)
		case sum != checksum(text):
			return nil, fmt.Errorf("dsql: %s was applied to the cluster in %s and has changed since: restore it and add a file, or use a new directory", name, d.path)
		}
	}
	slices.Sort(pending)
	return pending, nil
}

// Applied records a file that has been applied.
func (d *Dir) Applied(name, text string) error {
	if d.state.Schema == nil {
		d.state.Schema = make(map[string]string)
	}
	d.state.Schema[name] = checksum(text)
	if d.state.Postgres == "" {
		return nil // see Ready
	}
	return d.save()
}

func checksum(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// Close unlocks the directory.
func (d *Dir) Close() { d.lock.Close() }

// Option is the option of package dsqltest, of type dsqltest.Option, for a cluster in d. That
// package sets it: the option is not public.
var Option func(d *Dir) any
