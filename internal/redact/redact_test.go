package redact_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/redact"
)

func TestValueShowsOnlyWhatIsShortAndPlain(t *testing.T) {
	t.Parallel()
	for _, shown := range []string{"", "full", "-1", "3s", "us-east-1", "app "} {
		require.Equal(t, fmt.Sprintf("%q", shown), redact.Value(shown))
	}
	for _, hidden := range []string{
		"require;password=hunter2", "a:hunter2", "a@hunter2", "a&hunter2", "a/hunter2", "a\nhunter2",
		"wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY12", // the length of a secret key
	} {
		require.Equal(t, redact.NotShown, redact.Value(hidden))
	}
}

func TestHostShowsOnlyNames(t *testing.T) {
	t.Parallel()
	for _, shown := range []string{"localhost", "db.example.com", "db.example.com:6432", "under_score.example", "72"} {
		require.Equal(t, fmt.Sprintf("%q", shown), redact.Host(shown))
	}
	for _, hidden := range []string{
		"admin:hunter2", "db.example.com:hunter2", "db.example.com;password=hunter2", "db.example.com/hunter2",
		"wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY12",
	} {
		require.Equal(t, redact.NotShown, redact.Host(hidden))
	}
}

// coded is an error as an AWS service answers it.
type coded struct{ code string }

func (c coded) Error() string     { return "hunter2" }
func (c coded) ErrorCode() string { return c.code }

// valueError prints its text by reflection too.
type valueError struct{ text string }

func (e valueError) Error() string { return e.text }

func TestWrapKeepsTheChainAndNotTheText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want string
	}{
		{errors.New("hunter2"), redact.NotShown},
		{fmt.Errorf("hunter2: %w", valueError{"hunter2"}), "redact_test.valueError"},
		{coded{"ExpiredToken"}, "AWS reports ExpiredToken"},
		{coded{"a:hunter2"}, "redact_test.coded"},
		{fmt.Errorf("hunter2: %w", context.Canceled), "context canceled"},
		{fmt.Errorf("hunter2: %w", &fs.PathError{Op: "open", Path: "/x", Err: fs.ErrNotExist}), "open /x"},
	} {
		wrapped := redact.Wrap("dsql: no AWS credentials", tt.err)
		require.ErrorIs(t, wrapped, tt.err)
		require.ErrorContains(t, wrapped, "dsql: no AWS credentials: ")
		require.ErrorContains(t, wrapped, tt.want)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			require.NotContains(t, fmt.Sprintf(verb, wrapped), "hunter2")
		}
	}
}
