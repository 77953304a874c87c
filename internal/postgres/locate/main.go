// Command locate prints the PostgreSQL that local clusters run, or says on
// standard error where it looked and ends with status 1.
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
