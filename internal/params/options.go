package params

import (
	"fmt"
	"strings"
)

// ClusterID is the option by which DSQL routes a client that sends no usable SNI hostname.
const ClusterID = "amzn-cluster-id"

// Option is one parameter in the startup parameter "options". Its name is as PostgreSQL takes it,
// with underscores for hyphens.
type Option struct{ Name, Value string }

// Is reports whether o sets the named parameter. Case, hyphens and underscores are ignored.
func (o Option) Is(name string) bool { return strings.EqualFold(o.Name, underscores(name)) }

// ParseOptions reads the startup parameter "options" as a PostgreSQL server does: white space
// separates arguments, a backslash escapes the character after it, and each argument is a switch:
// -c name=value, -cname=value, --name=value, or one of the older switches, such as -S for work_mem.
// The options before an error are returned with it; its text is PostgreSQL's.
func ParseOptions(options string) ([]Option, error) {
	var parsed []Option
	args := split(options)
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if long, ok := strings.CutPrefix(arg, "--"); ok {
			option, ok := assignment(long)
			if !ok {
				return parsed, fmt.Errorf("--%s requires a value", long)
			}
			parsed = append(parsed, option)
			continue
		}
		if len(arg) < 2 || arg[0] != '-' {
			return parsed, invalid(arg)
		}
		for letters := arg[1:]; letters != ""; {
			letter := letters[0]
			letters = letters[1:]
			if option, ok := flags[letter]; ok { // takes no value: more letters may follow
				parsed = append(parsed, option)
				continue
			}
			value := letters
			letters = ""
			if value == "" {
				if i++; i == len(args) {
					return parsed, invalid(arg)
				}
				value = args[i]
			}
			option, err := valued(letter, value)
			if err != nil {
				return parsed, err
			}
			parsed = append(parsed, option)
		}
	}
	return parsed, nil
}

// flags are the switches without a value.
var flags = map[byte]Option{
	'E': {"echo", "on"},
	'F': {"fsync", "off"},
	'O': {"allow_system_table_mods", "on"},
	'P': {"ignore_system_indexes", "on"},
	'e': {"DateStyle", "euro"},
	'i': {"listen_addresses", "*"},
	'j': {"echo", "on"},
	'l': {"ssl", "on"},
	'n': {"restart_after_crash", "on"},
	's': {"log_statement_stats", "on"},
}

// valuedSwitches are the switches with a value, except -c and -f.
var valuedSwitches = map[byte]string{
	'B': "shared_buffers",
	'D': "data_directory",
	'N': "max_connections",
	'S': "work_mem",
	'W': "post_auth_delay",
	'd': "client_min_messages",
	'h': "listen_addresses",
	'k': "unix_socket_directories",
	'p': "port",
	't': "log_statement_stats",
}

// planSwitches are the values of -f, which disable kinds of plans.
var planSwitches = map[string]string{
	"b": "enable_bitmapscan",
	"h": "enable_hashjoin",
	"i": "enable_indexscan",
	"m": "enable_mergejoin",
	"n": "enable_nestloop",
	"o": "enable_indexonlyscan",
	"s": "enable_seqscan",
	"t": "enable_tidscan",
}

func valued(letter byte, value string) (Option, error) {
	if letter == 'c' {
		option, ok := assignment(value)
		if !ok {
			return Option{}, fmt.Errorf("-c %s requires a value", value)
		}
		return option, nil
	}
	if name, ok := planSwitches[value]; ok && letter == 'f' {
		return Option{name, "off"}, nil
	}
	if name, ok := valuedSwitches[letter]; ok {
		return Option{name, value}, nil
	}
	return Option{}, invalid("-" + string(letter))
}

func invalid(arg string) error {
	return fmt.Errorf("invalid command-line argument for server process: %s", arg)
}

func assignment(s string) (Option, bool) {
	name, value, ok := strings.Cut(s, "=")
	return Option{underscores(name), value}, ok
}

func underscores(name string) string { return strings.ReplaceAll(name, "-", "_") }

// isSpace is C's isspace.
func isSpace(c byte) bool { return strings.IndexByte(" \t\n\v\f\r", c) >= 0 }

// split is PostgreSQL's pg_split_opts.
func split(options string) []string {
	var args []string
	for i := 0; ; {
		for i < len(options) && isSpace(options[i]) {
			i++
		}
		if i == len(options) {
			return args
		}
		var arg strings.Builder
		for ; i < len(options) && !isSpace(options[i]); i++ {
			if options[i] == '\\' {
				if i++; i == len(options) {
					break
				}
			}
			arg.WriteByte(options[i])
		}
		args = append(args, arg.String())
	}
}

// AppendOption adds a parameter to the startup parameter "options".
func AppendOption(options, name, value string) string {
	var b strings.Builder
	b.WriteString(options)
	if options != "" {
		b.WriteByte(' ')
	}
	b.WriteString("-c ")
	for _, c := range []byte(name + "=" + value) {
		if c == '\\' || isSpace(c) {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String()
}

// FormatOptions writes options so that [ParseOptions] reads them.
func FormatOptions(options []Option) string {
	text := ""
	for _, o := range options {
		text = AppendOption(text, o.Name, o.Value)
	}
	return text
}
