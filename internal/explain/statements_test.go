package explain

import (
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/go-dsql/dsql/internal/dialect"
)

// documented returns text as docs/errors.md has it.
func documented(text string) string {
	text = newTarget("<role>", "<endpoint>", "").fill(text)
	return strings.ReplaceAll(strings.NewReplacer("{name}", "<name>", "{type}", "<type>").Replace(text), "<", "&lt;")
}

func TestEveryCaseIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/errors.md")
	require.NoError(t, err)
	lines := strings.Split(string(page), "\n")
	for _, group := range stateCases {
		for _, c := range group {
			if c.text != "" {
				require.Contains(t, lines, documented(c.text))
			}
		}
	}
}

// A case that an earlier one hides would never be used.
func TestNoCaseIsHidden(t *testing.T) {
	for _, group := range stateCases {
		for _, c := range group {
			if c.text == "" || c.words == "" && c.code == "" {
				continue
			}
			e := &pgconn.PgError{Code: c.code, Message: c.words}
			if c.code == "" {
				e.Code = "99999"
			}
			require.Equal(t, newTarget("<role>", "<endpoint>", "").fill(fillNames(c.text, c.words)),
				explainState(e, newTarget("<role>", "<endpoint>", "")), c.words)
		}
	}
}

// Whatever a cluster was seen to refuse has advice of its own.
func TestEveryRefusedStatementIsExplained(t *testing.T) {
	for _, r := range dialect.Rules() {
		text := Error(&pgconn.PgError{Code: r.Code, Message: r.Message})
		require.NotEmpty(t, text, r.Statement)
		if r.Source == dialect.Recorded || r.Source == dialect.Observed {
			require.NotContains(t, text, "this part of PostgreSQL", r.Statement)
		}
	}
}
