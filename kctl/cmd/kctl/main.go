// Command kctl operates Bareboat clusters.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"bareboat.dev/kctl/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
