//go:build !unix

package main

import "os"

// removeAtEnd removes files when the function is called.
func removeAtEnd(paths []string) (func(), error) {
	return func() {
		for _, path := range paths {
			_ = os.RemoveAll(path)
		}
	}, nil
}
