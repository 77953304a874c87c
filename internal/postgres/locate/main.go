// Command locate prints the version and path of the PostgreSQL that local clusters run. If there is
// none, it prints where it looked to standard error and exits with status 1.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/go-dsql/dsql/internal/postgres"
)

func main() {
	found, err := postgres.Locate(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(found)
}
