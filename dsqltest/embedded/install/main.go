// Command install downloads PostgreSQL into the user's cache, where dsqltest finds it, and prints
// where it is. scripts/setup runs it on machines where it cannot install packages.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/go-dsql/dsql/dsqltest/embedded"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := embedded.Install(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(dir)
}
