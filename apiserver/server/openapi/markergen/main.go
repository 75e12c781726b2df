// Command markergen writes what the comments of Kubernetes' Go types say to machines, and compiled code does not: which fields
// are required, and how lists and maps are merged. It reads the sources of the types that the server serves, in the versions
// that the module requires.
//
//	go run ./markergen markers.txt
package main

import (
	"fmt"
	"os"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/registry/groups"
	"bareboat.dev/apiserver/review"
	"bareboat.dev/apiserver/server/openapi/markergen/markers"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: %s <file>", os.Args[0])
	}
	text, err := markers.Generate(registry.All(groups.All(core.Config{}), review.Resources()))
	if err != nil {
		return err
	}
	return os.WriteFile(os.Args[1], []byte(text), 0o644)
}
