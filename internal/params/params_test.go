package params

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSettableAndRefusedAreDisjoint(t *testing.T) {
	require.NotEmpty(t, Refused())
	for _, name := range Refused() {
		require.False(t, IsSettable(name), name)
		advice, ok := Advice(name)
		require.True(t, ok)
		require.NotEmpty(t, advice)
	}
	_, ok := Advice("search_path")
	require.False(t, ok)
}

func TestParameterNamesIgnoreCase(t *testing.T) {
	require.True(t, IsSettable("Search_Path"))
	require.False(t, IsSettable("statement_timeout"))
	_, ok := Advice("Statement_Timeout")
	require.True(t, ok)
	require.Equal(t, `setting configuration parameter "Work_Mem" not supported`, RefusalMessage("Work_Mem"))
}

func TestUnknownParameterIsAnsweredWithTheNearest(t *testing.T) {
	for name, want := range map[string]string{
		"search_pth":             `unknown parameter "search_pth"; the nearest known one is search_path (session parameters go into options=-c name=value)`,
		"pool_max_connections":   `unknown parameter "pool_max_connections"; the nearest known one is pool_max_conns (`,
		"pool-max-conn-lifetime": "the nearest known one is pool_max_conn_lifetime (",
		"password":               "tokens are made for you",
		"statement_timeout":      `DSQL refuses the parameter "statement_timeout"`,
		"":                       "must not have an empty name",
		"hunter2=":               "unknown parameter (not shown, it may hold a secret)",
	} {
		err := Unknown(name, []string{"search_path", "region"})
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "hunter2")
	}
}
