package occ

import (
	"database/sql/driver"
	"fmt"
	"reflect"
	"slices"
)

// refuses returns why a row must not be inserted, or nil.
func (o *LoadOptions) refuses(row LoadRow) error {
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
