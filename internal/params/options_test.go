package params

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseOptions(t *testing.T) {
	for _, tt := range []struct {
		options string
		want    []Option
		err     string
	}{
		{"", nil, ""},
		{" \t\n\v\f\r ", nil, ""},
		{"-c a=b", []Option{{"a", "b"}}, ""},
		{"-ca=b", []Option{{"a", "b"}}, ""},
		{"--a-b.c-d=e-f", []Option{{"a_b.c_d", "e-f"}}, ""},
		{"-c a=", []Option{{"a", ""}}, ""},
		{"-c a=b=c", []Option{{"a", "b=c"}}, ""},
		{"-c\va=b", []Option{{"a", "b"}}, ""},
		{`-c a=b\ c\\`, []Option{{"a", `b c\`}}, ""},
		{`-c\ a=b`, []Option{{" a", "b"}}, ""},
		{`\-c a=b`, []Option{{"a", "b"}}, ""},
		{`-c a=b\`, []Option{{"a", "b"}}, ""},
		{`-c work\_mem=1`, []Option{{"work_mem", "1"}}, ""},
		{`-c a=\ -cb=c`, []Option{{"a", " -cb=c"}}, ""},
		{"-c a=b -S 64 -c d=e", []Option{{"a", "b"}, {"work_mem", "64"}, {"d", "e"}}, ""},
		{"-S64", []Option{{"work_mem", "64"}}, ""},
		{"-esc a=b", []Option{{"DateStyle", "euro"}, {"log_statement_stats", "on"}, {"a", "b"}}, ""},
		{"-fs -f h", []Option{{"enable_seqscan", "off"}, {"enable_hashjoin", "off"}}, ""},
		{"-d 5", []Option{{"client_min_messages", "5"}}, ""},
		{"-c a", nil, "-c a requires a value"},
		{"--a", nil, "--a requires a value"},
		{"-c a=b -c", []Option{{"a", "b"}}, "invalid command-line argument for server process: -c"},
		{"a=b", nil, "invalid command-line argument for server process: a=b"},
		{"-", nil, "invalid command-line argument for server process: -"},
		{"-fx", nil, "invalid command-line argument for server process: -f"},
		{"-zx", nil, "invalid command-line argument for server process: -z"},
	} {
		got, err := ParseOptions(tt.options)
		require.Equal(t, tt.want, got, "%q", tt.options)
		if tt.err == "" {
			require.NoError(t, err, "%q", tt.options)
			require.Equal(t, tt.want, parse(t, FormatOptions(got)))
		} else {
			require.EqualError(t, err, tt.err, "%q", tt.options)
		}
	}
}

func parse(t *testing.T, options string) []Option {
	t.Helper()
	parsed, err := ParseOptions(options)
	require.NoError(t, err)
	return parsed
}

func TestAppendOptionEscapes(t *testing.T) {
	require.Equal(t, `-c a=b`, AppendOption("", "a", "b"))
	require.Equal(t, `-e -c a=\ b\\\	c`, AppendOption("-e", "a", " b\\\tc"))
}

func TestOptionIs(t *testing.T) {
	require.True(t, Option{"amzn_cluster_id", "x"}.Is(ClusterID))
	require.True(t, Option{"Statement_Timeout", "x"}.Is("statement_timeout"))
	require.False(t, Option{"statement_timeout2", "x"}.Is("statement_timeout"))
}

func FuzzParseOptions(f *testing.F) {
	f.Add(`-c a=b\ -c --x=y -esc d=e -S 64`)
	f.Fuzz(func(t *testing.T, options string) {
		parsed, err := ParseOptions(options)
		if err == nil {
			require.Equal(t, parsed, parse(t, FormatOptions(parsed)))
		}
	})
}
