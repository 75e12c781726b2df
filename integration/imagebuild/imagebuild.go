// Package imagebuild makes small OCI images without a container engine: binaries that were just built, and files of Debian packages
// with exactly the shared libraries that they need. The same input gives the same bytes.
package imagebuild

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"sort"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Spec describes one image.
type Spec struct {
	// Name is the reference that the image is loaded as, e.g. "docker.io/bareboat/guestbook-web:v1".
	Name string `json:"name"`
	// Binaries are files to copy: path in the image to path on this machine, relative to BinDir.
	Binaries map[string]string `json:"binaries,omitempty"`
	// Packages are Debian packages to take Files from, with what those packages depend on.
	Packages []string `json:"packages,omitempty"`
	// Files are paths in those packages; programs bring their shared libraries.
	Files []string `json:"files,omitempty"`
	// Links are symbolic links to make: path in the image to target.
	Links map[string]string `json:"links,omitempty"`
	// Dirs are folders to make, with their mode in octal, e.g. "/tmp": "1777".
	Dirs map[string]string `json:"dirs,omitempty"`

	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	Env        []string `json:"env,omitempty"`
	User       string   `json:"user,omitempty"`
	WorkingDir string   `json:"workingDir,omitempty"`
	Ports      []string `json:"ports,omitempty"`
}

// entry is one file, folder or link of the layer.
type entry struct {
	mode   int64
	link   string
	source string
	data   []byte
	dir    bool
}

// Build makes the image. Relative paths of Binaries are below binDir; cache holds downloaded packages from one build to the next.
func Build(s Spec, binDir, cache string) (v1.Image, error) {
	tree := map[string]entry{
		"/etc/passwd": {mode: 0o644, data: []byte("root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n")},
		"/etc/group":  {mode: 0o644, data: []byte("root:x:0:\nnonroot:x:65532:\n")},
		"/tmp":        {mode: 0o1777, dir: true},
	}
	for dir, mode := range s.Dirs {
		var m int64
		if _, err := fmt.Sscanf(mode, "%o", &m); err != nil {
			return nil, fmt.Errorf("dirs: %s: %q is not an octal mode", dir, mode)
		}
		tree[dir] = entry{mode: m, dir: true}
	}
	for p, target := range s.Links {
		tree[p] = entry{mode: 0o777, link: target}
	}
	for dst, src := range s.Binaries {
		if !filepath.IsAbs(src) {
			src = filepath.Join(binDir, src)
		}
		tree[dst] = entry{mode: 0o755, source: src}
	}
	if len(s.Packages) > 0 {
		root, err := unpack(s.Packages, cache)
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(root)
		if err := addFiles(tree, root, s.Files); err != nil {
			return nil, err
		}
		return assemble(s, tree)
	}
	return assemble(s, tree)
}

func assemble(s Spec, tree map[string]entry) (v1.Image, error) {
	data, err := layer(tree)
	if err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1), l)
	if err != nil {
		return nil, err
	}
	ports := map[string]struct{}{}
	for _, p := range s.Ports {
		ports[p] = struct{}{}
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", goarch()
	file.Config = v1.Config{Entrypoint: s.Entrypoint, Cmd: s.Cmd, Env: append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, s.Env...), User: s.User, WorkingDir: s.WorkingDir, ExposedPorts: ports}
	return mutate.ConfigFile(img, file)
}

// layer writes the tree as a tar in order of paths, with every parent folder and no times.
func layer(tree map[string]entry) ([]byte, error) {
	for p := range tree {
		for dir := path.Dir(p); dir != "/"; dir = path.Dir(dir) {
			if _, ok := tree[dir]; !ok {
				tree[dir] = entry{mode: 0o755, dir: true}
			}
		}
	}
	paths := make([]string, 0, len(tree))
	for p := range tree {
		paths = append(paths, p)
	}
	sort.Strings(paths)
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, p := range paths {
		if err := writeEntry(tw, p, tree[p]); err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
	}
	return buf.Bytes(), tw.Close()
}

func writeEntry(tw *tar.Writer, p string, e entry) error {
	h := &tar.Header{Name: p[1:], Mode: e.mode, Format: tar.FormatPAX}
	switch {
	case e.dir:
		h.Typeflag, h.Name = tar.TypeDir, p[1:]+"/"
		return tw.WriteHeader(h)
	case e.link != "":
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		return tw.WriteHeader(h)
	}
	data := e.data
	if e.source != "" {
		var err error
		if data, err = os.ReadFile(e.source); err != nil {
			return err
		}
	}
	h.Typeflag, h.Size = tar.TypeReg, int64(len(data))
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err := tw.Write(data)
	return err
}

// Save writes the image as an OCI image layout (image-spec, image-layout.md) in a tar archive, named by the annotations that
// engines read.
func Save(img v1.Image, name, file string) error {
	dir, err := os.MkdirTemp("", "oci-layout-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	annotations := map[string]string{"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name}
	if err := p.AppendImage(img, layout.WithAnnotations(annotations)); err != nil {
		return err
	}
	return tarFolder(dir, file)
}

func tarFolder(dir, file string) error {
	out, err := os.CreateTemp(filepath.Dir(file), ".archive-*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	tw := tar.NewWriter(out)
	err = filepath.Walk(dir, func(p string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		return writeEntry(tw, "/"+rel, entry{mode: 0o644, source: p})
	})
	if err == nil {
		err = tw.Close()
	}
	if err == nil {
		err = out.Chmod(0o644)
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(out.Name(), file)
}
