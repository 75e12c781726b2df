// Command mkimage builds OCI archives from image descriptions (see package imagebuild).
//
//	go run ./integration/cmd/mkimage -bin build/images/bin -out build/images deploy/examples/guestbook/images/*.yaml
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"

	"bareboat.dev/integration/imagebuild"
)

func main() {
	out := flag.String("out", "build/images", "folder for the archives")
	bin := flag.String("bin", "build/images/bin", "folder of the binaries")
	cache := flag.String("cache", "build/debian", "folder that keeps downloaded packages")
	flag.Parse()
	for _, file := range flag.Args() {
		if err := build(file, *out, *bin, *cache); err != nil {
			fmt.Fprintf(os.Stderr, "mkimage: %s: %v\n", file, err)
			os.Exit(1)
		}
	}
}

func build(file, out, bin, cache string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var spec imagebuild.Spec
	if err := yaml.UnmarshalStrict(data, &spec); err != nil {
		return err
	}
	img, err := imagebuild.Build(spec, bin, cache)
	if err != nil {
		return err
	}
	archive := filepath.Join(out, strings.TrimSuffix(filepath.Base(file), ".yaml")+".tar")
	if err := imagebuild.Save(img, spec.Name, archive); err != nil {
		return err
	}
	fmt.Printf("%s\t%s\n", spec.Name, archive)
	return nil
}
