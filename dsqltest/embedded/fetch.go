package embedded

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// maxArchive is more than any archive has, in bytes.
const maxArchive = 256 << 20

// fetch downloads the archive. The library's own download accepts an archive that it could get no
// checksum for, has no time limit and cannot be interrupted.
func (s source) fetch(ctx context.Context, archive string) error {
	repository, err := url.Parse(s.repository)
	if err != nil || repository.Host == "" || repository.Scheme != "https" && repository.Scheme != "http" {
		return fmt.Errorf("dsqltest: %s must be the URL of a Maven repository, such as %s", variable, mavenCentral)
	}
	jar := repository.JoinPath("io/zonky/test/postgres", s.artifact, s.version, s.artifact+"-"+s.version+".jar")
	checksum := *jar
	checksum.Path += ".sha256"
	fmt.Fprintf(s.progress, "dsqltest: no PostgreSQL on this machine: downloading %s once\n", jar.Redacted())

	want, err := s.checksum(ctx, &checksum)
	if err != nil {
		return s.failed(&checksum, err)
	}
	file, err := os.Create(archive + ".jar")
	if err != nil {
		return fmt.Errorf("dsqltest: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	hash := sha256.New()
	if err := s.get(ctx, jar, io.MultiWriter(file, hash)); err != nil {
		return s.failed(jar, err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != want {
		return s.failed(jar, fmt.Errorf("its SHA-256 checksum is %s, not %s: the download is damaged or has been tampered with, and is not used", got, want))
	}
	if err := extractArchive(file.Name(), archive); err != nil {
		return s.failed(jar, err)
	}
	return nil
}

func (s source) failed(from *url.URL, err error) error {
	if local := (*fs.PathError)(nil); errors.As(err, &local) {
		return fmt.Errorf("dsqltest: writing the download: %w: free disk space or install PostgreSQL 14 or later", err)
	}
	return fmt.Errorf("dsqltest: downloading %s: %w\n%s", from.Redacted(), err, advice)
}

// checksum returns the SHA-256 checksum that the repository has of the archive, in hex.
func (s source) checksum(ctx context.Context, from *url.URL) (string, error) {
	var text strings.Builder
	if err := s.get(ctx, from, &text); err != nil {
		return "", err
	}
	sum, _, _ := strings.Cut(strings.TrimSpace(text.String()), " ") // some repositories add the file's name
	sum = strings.ToLower(sum)
	if decoded, err := hex.DecodeString(sum); err != nil || len(decoded) != sha256.Size {
		return "", errors.New("it is not a SHA-256 checksum")
	}
	return sum, nil
}

// get downloads a file, and fails when nothing has arrived for a while.
func (s source) get(ctx context.Context, from *url.URL, to io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(s.stalled, func() { cancel(fmt.Errorf("nothing arrived for %v", s.stalled)) })
	defer timer.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from.String(), nil)
	if err != nil {
		return errors.New("malformed URL")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return because(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the repository answered %s", response.Status)
	}
	buf := make([]byte, 64<<10)
	for total := 0; ; {
		n, err := response.Body.Read(buf)
		timer.Reset(s.stalled)
		if total += n; total > maxArchive {
			return fmt.Errorf("it has more than %d MB", maxArchive>>20)
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return err
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return because(ctx, err)
		}
	}
}

// because returns why a request failed, without the URL, which the error contains already.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// extractArchive writes the .txz file in a jar.
func extractArchive(jar, archive string) error {
	files, err := zip.OpenReader(jar)
	if err != nil {
		return err
	}
	defer files.Close()
	for _, file := range files.File {
		if !strings.HasSuffix(file.Name, ".txz") {
			continue
		}
		from, err := file.Open()
		if err != nil {
			return err
		}
		defer from.Close()
		to, err := os.Create(archive)
		if err != nil {
			return err
		}
		_, err = io.Copy(to, io.LimitReader(from, maxArchive))
		return errors.Join(err, to.Close())
	}
	return errors.New("there is no .txz archive in it")
}
