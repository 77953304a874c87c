package occ

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"
)

// maxRowSize is what one message to DSQL, 10 MiB, leaves for values. DSQL cuts the connection of a
// longer one, which would look like a loss.
const maxRowSize = 10<<20 - 4<<10

// refuses returns why a row of a size must not be sent, or nil.
func (o *LoadOptions) refuses(row LoadRow, size int) error {
	if size > maxRowSize {
		return fmt.Errorf("the row of %d bytes does not fit into one message to DSQL, of 10 MiB", size)
	}
	for i, column := range o.Columns {
		if slices.Contains(o.Key, column) && resolve(row.Values[i]) == nil {
			return fmt.Errorf("the key column %q must not be NULL", column)
		}
	}
	return nil
}

var valuer = reflect.TypeFor[driver.Valuer]()

// resolve returns what a value that is a pointer or a [driver.Valuer] stands for, and nil for all
// that pgx sends as NULL.
func resolve(v any) any {
	for range 8 { // a bound for those that lead back to themselves
		r := reflect.ValueOf(v)
		switch r.Kind() {
		case reflect.Invalid:
			return nil
		case reflect.Pointer:
			// As in pgx, a method of the type pointed to is not called on nil.
			if r.IsNil() && (!r.Type().Implements(valuer) || r.Type().Elem().Implements(valuer)) {
				return nil
			}
		case reflect.Slice, reflect.Map:
			if r.IsNil() && !r.Type().Implements(valuer) {
				return nil
			}
		}
		if of, ok := v.(driver.Valuer); ok {
			value, err := of.Value()
			if err != nil {
				return v // pgx reports it
			}
			v = value
			continue
		}
		if r.Kind() != reflect.Pointer {
			return v
		}
		v = r.Elem().Interface()
	}
	return v
}

// sizeOf is about what a row's values take in the table, and at least what they take in a message.
func sizeOf(row LoadRow) int {
	n := 0
	for _, v := range row.Values {
		n += 16 + sizeOfValue(v)
	}
	return n
}

// sizeOfValue is 0 for what fits into 16 bytes.
func sizeOfValue(v any) int {
	if text, ok := v.(string); ok {
		return len(text)
	}
	resolved := resolve(v)
	if _, ok := resolved.(time.Time); ok {
		return 0
	}
	r := reflect.ValueOf(resolved)
	switch r.Kind() {
	case reflect.String:
		return r.Len()
	case reflect.Slice, reflect.Array:
		if r.Type().Elem().Kind() == reflect.Uint8 {
			return r.Len()
		}
	case reflect.Map, reflect.Struct:
	default:
		return 0
	}
	text, _ := json.Marshal(v) // DSQL has no arrays, so it is for a column of JSON
	return len(text)
}
