package realimages

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"bareboat.dev/integration/imagebuild"
)

// users are what the packages' maintainer scripts, which are not run, would have made.
const (
	users = `root:x:0:0:root:/root:/bin/bash
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
postgres:x:999:999:PostgreSQL:/var/lib/postgresql:/bin/bash
mysql:x:998:998:MySQL:/nonexistent:/bin/false
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
`
	groups = "root:x:0:\nadm:x:4:\ntty:x:5:\nwww-data:x:33:\npostgres:x:999:\nmysql:x:998:\nnogroup:x:65534:\n"
)

// basis are the packages that every image has beside its own.
func basis() []string { return []string{"base-files", "bash", "coreutils", "sed", "grep"} }

// Build writes an archive of one image, real/<tag>, of whole packages, unless it is there already. cache holds downloaded packages.
func Build(archive, tag, cache string, packages ...string) error {
	if _, err := os.Stat(archive); err == nil {
		return nil
	}
	root, err := imagebuild.Unpack(append(basis(), packages...), cache)
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	if err := furnish(root); err != nil {
		return err
	}
	layer := archive + ".layer"
	defer os.Remove(layer)
	if err := pack(root, layer); err != nil {
		return err
	}
	l, err := tarball.LayerFromFile(layer)
	if err != nil {
		return err
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	config.Config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/15/bin:/usr/lib/jvm/java-17-openjdk-amd64/bin"}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return err
	}
	ref, err := name.NewTag("docker.io/real/" + tag)
	if err != nil {
		return err
	}
	fresh := archive + ".new"
	if err := tarball.WriteToFile(fresh, ref, img); err != nil {
		return err
	}
	return os.Rename(fresh, archive)
}

func furnish(root string) error {
	for path, content := range map[string]string{"etc/passwd": users, "etc/group": groups} {
		if err := os.WriteFile(filepath.Join(root, path), []byte(content), 0o644); err != nil {
			return err
		}
	}
	if err := os.Symlink("bash", filepath.Join(root, "bin/sh")); err != nil && !os.IsExist(err) {
		return err
	}
	for _, dir := range []string{"run", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	return os.Chmod(filepath.Join(root, "tmp"), 0o777|fs.ModeSticky)
}

// pack writes a folder as a layer.
func pack(root, to string) (err error) {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	w := tar.NewWriter(f)
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		return add(w, root, path, e)
	})
	if err != nil {
		return fmt.Errorf("pack %s: %w", root, err)
	}
	return w.Close()
}

func add(w *tar.Writer, root, path string, e fs.DirEntry) error {
	info, err := e.Info()
	if err != nil {
		return err
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(path); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	if h.Name, err = filepath.Rel(root, path); err != nil {
		return err
	}
	if e.IsDir() {
		h.Name += "/"
	}
	if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = io.Copy(w, in)
	return err
}
