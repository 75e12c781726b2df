package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"bareboat.dev/kubelet/rmtree"
)

const (
	// maxArchiveFiles bounds the entries of an image archive: a few per layer and image.
	maxArchiveFiles = 10_000
	// maxLinks bounds links from link to link in archives of docker save, which has one level.
	maxLinks = 4
)

// The annotations under which an OCI layout's index says what an image is called.
const (
	annotationContainerd = "io.containerd.image.name"
	annotationRef        = "org.opencontainers.image.ref.name"
)

// Load imports an archive: an OCI image layout as tar, or what docker save writes, compressed with gzip or zstd or not. It returns
// the images under the names that the archive gives them.
func (s *Store) Load(ctx context.Context, archive io.Reader) ([]Image, error) {
	work, err := os.MkdirTemp(s.path(tmpDir), "load-*")
	if err != nil {
		return nil, err
	}
	images, err := s.loadIn(ctx, work, archive)
	return images, errors.Join(err, rmtree.Remove(work))
}

func (s *Store) loadIn(ctx context.Context, work string, archive io.Reader) ([]Image, error) {
	plain, closePlain, err := decompress(archive)
	if err != nil {
		return nil, err
	}
	defer closePlain()
	a, err := s.readArchive(ctx, work, plain)
	if err != nil {
		return nil, fmt.Errorf("read image archive: %w", err)
	}
	// What docker save writes may be both; its manifest.json knows all names.
	if a.has("manifest.json") {
		return s.loadDocker(ctx, a)
	}
	if a.has("index.json") {
		return s.loadLayout(ctx, a)
	}
	return nil, fmt.Errorf("%w: the archive has neither index.json (OCI layout) nor manifest.json (docker save)", ErrCorrupt)
}

// archive is an image archive laid out in a directory, under numbers: its names are never names of files here.
type archive struct {
	files map[string]string // name → path
	links map[string]string // name → name
}

func (s *Store) readArchive(ctx context.Context, work string, r io.Reader) (*archive, error) {
	a := &archive{files: map[string]string{}, links: map[string]string{}}
	left := s.options.MaxLayerSize
	tr := tar.NewReader(r)
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) && n > 0 {
			return a, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if n >= maxArchiveFiles {
			return nil, fmt.Errorf("%w: more than %d files", ErrTooLarge, maxArchiveFiles)
		}
		name := path.Clean("/" + h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			file := filepath.Join(work, strconv.Itoa(n))
			size, err := spill(file, tr, left)
			if err != nil {
				return nil, err
			}
			left -= size
			a.files[name] = file
		case tar.TypeSymlink:
			a.links[name] = path.Join(path.Dir(name), h.Linkname)
		case tar.TypeLink:
			a.links[name] = path.Clean("/" + h.Linkname)
		}
	}
}

// spill writes at most limit bytes to a new file.
func spill(file string, r io.Reader, limit int64) (size int64, err error) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	size, err = io.Copy(f, io.LimitReader(r, limit+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return size, corrupt(err)
	}
	if size > limit {
		return size, fmt.Errorf("%w: the archive's files are too many bytes", ErrTooLarge)
	}
	return size, nil
}

func (a *archive) find(name string) (string, bool) {
	name = path.Clean("/" + name)
	for range maxLinks {
		if file, ok := a.files[name]; ok {
			return file, true
		}
		to, ok := a.links[name]
		if !ok {
			return "", false
		}
		name = to
	}
	return "", false
}

func (a *archive) has(name string) bool { _, ok := a.find(name); return ok }

func (a *archive) open(name string) (*os.File, error) {
	file, ok := a.find(name)
	if !ok {
		return nil, fmt.Errorf("%w: the archive lacks %s", ErrCorrupt, name)
	}
	return os.Open(file)
}

func (a *archive) small(name string) ([]byte, error) {
	f, err := a.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readSmall(f)
}

// blob reads a small blob of an OCI layout and verifies it.
func (a *archive) blob(digest v1.Hash) ([]byte, error) {
	data, err := a.small(blobName(digest))
	if err != nil {
		return nil, err
	}
	if got := digestOf(data); got != digest.String() {
		return nil, fmt.Errorf("%w: blob %s has digest %s", ErrCorrupt, digest, got)
	}
	return data, nil
}

func blobName(digest v1.Hash) string { return "blobs/" + digest.Algorithm + "/" + digest.Hex }

// loadLayout imports the images of an OCI layout for this machine.
func (s *Store) loadLayout(ctx context.Context, a *archive) ([]Image, error) {
	data, err := a.small("index.json")
	if err != nil {
		return nil, err
	}
	ix, err := v1.ParseIndexManifest(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: index.json: %w", ErrCorrupt, err)
	}
	var images []Image
	var other error
	for _, d := range ix.Manifests {
		img, err := s.loadManifest(ctx, a, d)
		if errors.Is(err, ErrNoPlatform) && len(ix.Manifests) > 1 {
			other = err
			continue
		}
		if err != nil {
			return images, err
		}
		images = append(images, img)
	}
	if len(images) == 0 {
		return nil, errors.Join(other, fmt.Errorf("%w: index.json lists no image for this machine", ErrCorrupt))
	}
	return images, nil
}

func (s *Store) loadManifest(ctx context.Context, a *archive, d v1.Descriptor) (Image, error) {
	m, err := s.resolveIn(a, d)
	if err != nil {
		return Image{}, err
	}
	config, err := a.blob(m.manifest.Config.Digest)
	if err != nil {
		return Image{}, err
	}
	names, err := layoutNames(d, m.asked)
	if err != nil {
		return Image{}, err
	}
	return s.add(ctx, m, config, names, loaded(names), func(_ context.Context, i int) (io.ReadCloser, error) {
		return a.verified(m.manifest.Layers[i])
	})
}

// verified opens a layer's blob; the layer's own digest covers its content, and this that it is what the manifest lists.
func (a *archive) verified(layer v1.Descriptor) (io.ReadCloser, error) {
	f, err := a.open(blobName(layer.Digest))
	if err != nil {
		return nil, err
	}
	if err := verifyFile(f, layer); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (s *Store) resolveIn(a *archive, d v1.Descriptor) (resolved, error) {
	digest := d.Digest
	for range maxIndexDepth {
		raw, err := a.blob(digest)
		if err != nil {
			return resolved{}, err
		}
		next, m, err := s.interpret(raw)
		if err != nil {
			return resolved{}, err
		}
		if m != nil {
			return resolved{manifest: m, raw: raw, digest: digest.String(), asked: d.Digest.String()}, nil
		}
		if digest, err = v1.NewHash(next); err != nil {
			return resolved{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
	}
	return resolved{}, fmt.Errorf("%w: indexes more than %d deep", ErrCorrupt, maxIndexDepth)
}

// layoutNames reads an entry's name. The standard annotation may hold a whole reference or only a tag, which alone names nothing.
func layoutNames(d v1.Descriptor, digest string) ([]string, error) {
	ref := d.Annotations[annotationContainerd]
	if ref == "" && strings.ContainsAny(d.Annotations[annotationRef], "/:") {
		ref = d.Annotations[annotationRef]
	}
	if ref == "" {
		return nil, nil
	}
	r, err := parse(ref)
	if err != nil {
		return nil, err
	}
	return []string{full(r), repository(r) + "@" + digest}, nil
}

// loadDocker imports what docker save wrote.
func (s *Store) loadDocker(ctx context.Context, a *archive) ([]Image, error) {
	data, err := a.small("manifest.json")
	if err != nil {
		return nil, err
	}
	var list []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("%w: manifest.json: %w", ErrCorrupt, err)
	}
	var images []Image
	for _, entry := range list {
		config, err := a.small(entry.Config)
		if err != nil {
			return images, err
		}
		var names []string
		for _, tag := range entry.RepoTags {
			full, err := Normalize(tag)
			if err != nil {
				return images, err
			}
			names = append(names, full)
		}
		if len(entry.Layers) > maxLayers {
			return images, fmt.Errorf("%w: %d layers", ErrTooLarge, len(entry.Layers))
		}
		// Such an archive has no manifest: the config's diff IDs are what its layers are verified by.
		m := resolved{manifest: &v1.Manifest{Layers: make([]v1.Descriptor, len(entry.Layers))}}
		img, err := s.add(ctx, m, config, names, loaded(names), func(_ context.Context, i int) (io.ReadCloser, error) { return a.open(entry.Layers[i]) })
		if err != nil {
			return images, err
		}
		images = append(images, img)
	}
	if len(images) == 0 {
		return nil, fmt.Errorf("%w: manifest.json lists no image", ErrCorrupt)
	}
	return images, nil
}
