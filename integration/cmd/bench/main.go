// Command bench measures Bareboat beside yardsticks and writes a table (see package bench).
//
//	go run ./integration/cmd/bench -out docs/benchmarks.md [measurement…]
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"

	"bareboat.dev/integration/bench"
)

func main() {
	out := flag.String("out", "", "file for the table; default standard output")
	profiles := flag.String("profiles", "", "folder for CPU profiles of the servers under load")
	flag.Parse()
	if flag.Arg(0) == bench.FanOutCommand {
		if err := bench.FanOut(flag.Args()[1:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	var table bytes.Buffer
	err := bench.Run(&table, os.Stderr, *profiles, flag.Args())
	if err == nil && *out != "" {
		err = os.WriteFile(*out, table.Bytes(), 0o644)
	} else if err == nil {
		_, err = io.Copy(os.Stdout, &table)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
