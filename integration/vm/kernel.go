package vm

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"bareboat.dev/integration/imagebuild"
)

// Kernel is an unpacked kernel package.
type Kernel struct {
	// Root is the folder that it is unpacked in, Image the kernel itself, Release its name, as in uname -r.
	Root, Image, Release string
	modules              map[string]string // path by name, with "_" for "-" as the kernel has it
}

// UnpackKernel finds the kernel in a folder that Debian's linux-image package was unpacked in.
func UnpackKernel(root string) (*Kernel, error) {
	images, err := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return nil, fmt.Errorf("kernels in %s: %v, %w", root, images, err)
	}
	k := &Kernel{Root: root, Image: images[0], Release: strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-"), modules: map[string]string{}}
	err = filepath.WalkDir(filepath.Join(root, "lib/modules", k.Release), func(path string, e fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok && err == nil {
			k.modules[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	return k, err
}

// LoadOrder lists the files of modules with those that they depend on, each after its own dependencies.
func (k *Kernel) LoadOrder(names ...string) ([]string, error) {
	var order []string
	seen := map[string]bool{}
	var visit func(name string) error
	visit = func(name string) error {
		name = strings.ReplaceAll(name, "-", "_")
		path, ok := k.modules[name]
		if !ok {
			return fmt.Errorf("kernel %s has no module %s", k.Release, name)
		}
		if seen[name] {
			return nil
		}
		seen[name] = true
		needs, err := depends(path)
		if err != nil {
			return err
		}
		for _, n := range needs {
			if err := visit(n); err != nil {
				return err
			}
		}
		order = append(order, path)
		return nil
	}
	for _, n := range names {
		if err := visit(n); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// depends reads which modules a module needs, from its own description ("depends=a,b" in the section .modinfo).
func depends(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	info := f.Section(".modinfo")
	if info == nil {
		return nil, fmt.Errorf("%s is no kernel module", path)
	}
	data, err := info.Data()
	if err != nil {
		return nil, err
	}
	for _, field := range strings.Split(string(data), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}

// debian unpacks packages, once for all runs: a folder in cache that is named by what is in it.
func debian(cache, name string, packages []string) (string, error) {
	sum := sha256.Sum256([]byte(strings.Join(packages, " ")))
	root := filepath.Join(cache, name+"-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	unpacked, err := imagebuild.Unpack(packages, filepath.Join(cache, "packages"))
	if err != nil {
		return "", err
	}
	return root, os.Rename(unpacked, root)
}
