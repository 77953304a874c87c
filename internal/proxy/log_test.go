package proxy

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a client is sent may be megabytes long; the log keeps the beginning of it.
func TestLogIsBounded(t *testing.T) {
	c := start(t)
	long := strings.Repeat("ä", 1<<20)
	_, err := connect(t, c).Exec(t.Context(), "SELECT $1::text::int", long)
	requireError(t, err, "22P02", `invalid input syntax for type integer: "`+long+`"`)

	role := strings.Repeat("r", 5000)
	_, err = login(t, pgConfig(t, c, role, signToken(t, c, role)))
	require.Error(t, err)

	var messages, roles int
	for _, e := range c.Log() {
		require.LessOrEqual(t, len(e.User), 1000)
		require.LessOrEqual(t, len(e.SQL), 1000)
		require.LessOrEqual(t, len(e.Message), 1000)
		if rest, ok := strings.CutPrefix(e.Message, "invalid input syntax for type integer: \""); ok {
			require.Equal(t, strings.Repeat("ä", len(rest)/2), rest, "no half of a character")
			require.Greater(t, len(rest), 900)
			messages++
		}
		if strings.HasPrefix(e.User, "rrr") {
			roles++
		}
	}
	require.Equal(t, 1, messages)
	require.Equal(t, 1, roles)
}
