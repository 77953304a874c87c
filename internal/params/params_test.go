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
