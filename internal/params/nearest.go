package params

import (
	"fmt"
	"maps"
	"slices"

	"github.com/go-dsql/dsql/internal/redact"
)

// Unknown refuses a parameter of a URL, never with its value, and suggests the one of known and
// [Settings] that it is most like.
func Unknown(name string, known []string) error {
	if err := CheckOne(name, ""); err != nil {
		return err
	}
	suggested := nearest(name, slices.Concat(known, slices.Sorted(maps.Keys(Settings))))
	return fmt.Errorf("dsql: the URL has an unknown parameter %s; the nearest known one is %s (session parameters go into options=-c name=value)", redact.Value(name), suggested)
}

// nearest returns the one of known that is most like name.
func nearest(name string, known []string) string {
	var best string
	least := len(name) + 100
	for _, k := range known {
		if d := distance(name, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance returns the number of bytes to add, remove or change between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
