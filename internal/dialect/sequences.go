package dialect

import "strconv"

// sequenceRules apply to sequences and identity columns, which need an explicit cache size:
// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/create-sequence-syntax-support.html
var sequenceRules = []Rule{
	special("CREATE SEQUENCE without CACHE", "CREATE SEQUENCE "+needsCache, Recorded, "CREATE SEQUENCE s", when("CREATE SEQUENCE "+needsCache, func(ts []token) bool {
		return has(ts, "create sequence") && !hasCache(ts)
	})),
	special("CREATE SEQUENCE AS another type than bigint", "datatype integer not supported, sequence type must be bigint", Unverified, "CREATE SEQUENCE s AS integer CACHE 1", refuseSequence),
	example("ALTER SEQUENCE with another CACHE", "ALTER SEQUENCE "+needsCache, Unverified, "ALTER SEQUENCE s CACHE 10"),
	example("ALTER SEQUENCE SET LOGGED", "unsupported ALTER SEQUENCE statement", Unverified, "ALTER SEQUENCE s SET UNLOGGED"),
	special("an identity column without CACHE", "identity column "+needsCache, Recorded, "CREATE TABLE x (id bigint GENERATED ALWAYS AS IDENTITY)", when("identity column "+needsCache, func(ts []token) bool {
		defined := columns(ts)
		for _, action := range actions(ts) {
			if options, ok := match(action, "alter column? NAME"); ok && (has(options, "add generated") || find(options, 0, "cache") >= 0 && altersIdentity(action)) {
				defined = append(defined, options)
			}
		}
		for _, column := range defined {
			for i := range column {
				if rest, ok := match(column[i:], "generated always|by default? as identity"); ok && !hasCache(inside(rest)) {
					return true
				}
				if has(column[i:], "set cache") && !hasCache(column[i:]) {
					return true
				}
			}
		}
		return false
	})),
}

const needsCache = "is not supported without an explicit cache size. please define CACHE greater than or equal to 65536 or equal to 1"

// hasCache reports whether there is a CACHE of a size that DSQL takes.
func hasCache(ts []token) bool {
	for i := range ts {
		if rest, ok := match(ts[i:], "cache"); ok && len(rest) > 0 {
			size, err := strconv.Atoi(rest[0].text)
			return err == nil && (size == 1 || size >= 65536)
		}
	}
	return false
}

// sequenceOptions lists the forms of a sequence's options.
var sequenceOptions = []string{
	"as bigint|int8", "increment by? VALUE", "minvalue VALUE", "no minvalue", "maxvalue VALUE", "no maxvalue", "no? cycle",
	"start with? VALUE", "cache VALUE", "restart with VALUE", "restart VALUE?", "owned by NAME",
}

func refuseSequence(ts []token) string {
	create := has(ts, "create sequence")
	rest, ok := match(ts, "create|alter sequence if? not? exists? NAME")
	if !ok || !create && fitsAny(rest, []string{"rename|owner to NAME", "set schema NAME"}) {
		return ""
	}
	if !create && find(rest, 0, "cache") >= 0 && !hasCache(rest) {
		return "ALTER SEQUENCE " + needsCache
	}
next:
	for len(rest) > 0 {
		for _, option := range sequenceOptions {
			if after, ok := match(rest, option); ok {
				rest = after
				continue next
			}
		}
		switch typ, ok := match(rest, "as"); {
		case ok && has(typ, "int|int4"):
			return "datatype integer not supported, sequence type must be bigint"
		case ok && len(typ) > 0:
			return "datatype " + typ[0].text + " not supported, sequence type must be bigint"
		case has(rest, "set|reset"):
			return "unsupported ALTER SEQUENCE statement"
		}
		return "" // PostgreSQL reports the syntax error
	}
	return ""
}
