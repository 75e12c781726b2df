package imagebuild

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
)

// goarch is the image's architecture: that of the machine whose packages are used.
func goarch() string { return runtime.GOARCH }

// Unpack downloads Debian packages with everything that they depend on, and unpacks them, unconfigured, into a new folder that the
// caller removes. cache holds downloaded packages from one call to the next.
func Unpack(packages []string, cache string) (root string, err error) { return unpack(packages, cache) }

// unpack downloads packages with everything that they depend on and unpacks them into a new folder.
func unpack(packages []string, cache string) (string, error) {
	all, err := closure(packages)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	root, err := os.MkdirTemp("", "debian-root-")
	if err != nil {
		return "", err
	}
	for _, p := range all {
		deb, err := download(p, cache)
		if err == nil {
			err = run("", "dpkg-deb", "--extract", deb, root)
		}
		if err != nil {
			os.RemoveAll(root)
			return "", err
		}
	}
	return root, nil
}

// debianPackage is one package at the version that apt would install.
type debianPackage struct{ name, version string }

// closure asks apt what it would install on a machine that has nothing yet.
func closure(packages []string) ([]debianPackage, error) {
	args := append([]string{"install", "--simulate", "--no-install-recommends", "-o", "Dir::State::status=/dev/null"}, packages...)
	out, err := exec.Command("apt-get", args...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("apt-get install --simulate %s: %w: %s; run apt-get update first", strings.Join(packages, " "), err, bytes.TrimSpace(out))
	}
	var found []debianPackage
	for line := range strings.Lines(string(out)) {
		// Inst redis-server (5:7.0.15-1 Debian:12/stable [amd64])
		if f := strings.Fields(line); len(f) > 2 && f[0] == "Inst" {
			found = append(found, debianPackage{f[1], strings.TrimPrefix(f[2], "(")})
		}
	}
	return found, nil
}

// download fetches a package unless the cache has it.
func download(p debianPackage, cache string) (string, error) {
	// apt-get escapes the epoch's colon in file names.
	pattern := filepath.Join(cache, fmt.Sprintf("%s_%s_*.deb", p.name, strings.ReplaceAll(p.version, ":", "%3a")))
	if have, _ := filepath.Glob(pattern); len(have) > 0 {
		return have[0], nil
	}
	if err := run(cache, "apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", p.name+"="+p.version); err != nil {
		return "", err
	}
	have, _ := filepath.Glob(pattern)
	if len(have) == 0 {
		return "", fmt.Errorf("apt-get download %s=%s left no %s", p.name, p.version, pattern)
	}
	return have[0], nil
}

func run(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// libraryDirs are where Debian keeps shared libraries, relative to the root.
func libraryDirs() []string {
	triplet := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]
	return []string{"/lib/" + triplet, "/usr/lib/" + triplet, "/lib", "/usr/lib", "/usr/lib/" + triplet + "/systemd"}
}

// addFiles copies files of the unpacked root with the links on their way and, for programs, their interpreter and libraries.
func addFiles(tree map[string]entry, root string, files []string) error {
	pending := append([]string(nil), files...)
	for len(pending) > 0 {
		p := pending[0]
		pending = pending[1:]
		if _, done := tree[p]; done {
			continue
		}
		more, err := addFile(tree, root, p)
		if err != nil {
			return err
		}
		pending = append(pending, more...)
	}
	return nil
}

func addFile(tree map[string]entry, root, p string) (more []string, err error) {
	full := filepath.Join(root, p)
	info, err := os.Lstat(full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("files: %s is in none of the packages", p)
	}
	if err != nil {
		return nil, err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(full)
		if err != nil {
			return nil, err
		}
		tree[p] = entry{mode: 0o777, link: target}
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(p), target)
		}
		return []string{target}, nil
	}
	if info.IsDir() {
		tree[p] = entry{mode: int64(info.Mode().Perm()), dir: true}
		return nil, nil
	}
	data, err := os.ReadFile(full)
	if err != nil {
		return nil, err
	}
	tree[p] = entry{mode: int64(info.Mode().Perm()), data: data}
	return needed(root, data)
}

// needed returns what a program's dynamic section asks for (ELF DT_NEEDED, PT_INTERP).
func needed(root string, data []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, nil // not a program
	}
	defer f.Close()
	var out []string
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			interp := make([]byte, p.Filesz)
			if _, err := p.ReadAt(interp, 0); err != nil {
				return nil, err
			}
			found, err := locate(root, path.Base(string(bytes.TrimRight(interp, "\x00"))))
			if err != nil {
				return nil, err
			}
			out = append(out, found, string(bytes.TrimRight(interp, "\x00")))
		}
	}
	libs, err := f.ImportedLibraries()
	if err != nil {
		return nil, err
	}
	for _, lib := range libs {
		found, err := locate(root, lib)
		if err != nil {
			return nil, err
		}
		out = append(out, found)
	}
	return out, nil
}

func locate(root, lib string) (string, error) {
	for _, dir := range libraryDirs() {
		if _, err := os.Lstat(filepath.Join(root, dir, lib)); err == nil {
			return path.Join(dir, lib), nil
		}
	}
	return "", fmt.Errorf("the shared library %s is in none of the packages", lib)
}
