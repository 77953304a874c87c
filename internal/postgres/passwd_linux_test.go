package postgres

import (
	"os"
	"path/filepath"
)

func useNSSWrapper(library string) { nssWrappers = []string{library} }

// installedNSSWrapper returns DSQLTEST_NSS_WRAPPER, for a machine without the package, otherwise
// the package's library, if any.
func installedNSSWrapper() string {
	if library := os.Getenv("DSQLTEST_NSS_WRAPPER"); library != "" {
		return library
	}
	for _, pattern := range nssWrappers {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0]
		}
	}
	return ""
}
