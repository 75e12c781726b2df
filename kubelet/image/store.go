package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"bareboat.dev/kubelet/rmtree"
)

// The store's directories and files.
const (
	lockFile      = "lock"
	indexFile     = "images.json"
	layersDir     = "layers"
	blobsDir      = "blobs/sha256"
	partialDir    = "partial" // downloads that may be resumed
	tmpDir        = "tmp"
	containersDir = "containers"
)

const (
	defaultMaxLayerSize  = 32 << 30
	defaultMaxLayerFiles = 2_000_000
	defaultParallel      = 3
	// minIDPrefix is how many hex digits of an ID may stand for it: 48 bits do not collide on one node.
	minIDPrefix = 12
)

// Store is an image store. See the package comment.
type Store struct {
	root     string
	options  Options
	platform v1.Platform
	lock     *os.File
	download chan struct{} // a slot per layer being downloaded
	flights  flights

	mu     sync.Mutex
	images map[string]*record
	mounts map[string]mountRecord
	held   map[string]int // digests of layers and blobs that unfinished work needs
}

// record is an image as images.json has it, by ID.
type record struct {
	ID       string    `json:"id"`
	Digest   string    `json:"digest,omitempty"`
	Tags     []string  `json:"tags,omitempty"`
	Digests  []string  `json:"digests,omitempty"`
	Layers   []string  `json:"layers"` // diff IDs, lowest first
	Size     int64     `json:"size"`
	Created  time.Time `json:"created,omitzero"`
	Loaded   time.Time `json:"loaded,omitzero"` // missing in records of older versions
	LastUsed time.Time `json:"lastUsed"`
	Pinned   bool      `json:"pinned,omitempty"`
	// Access is by repository; empty in records of older versions, and of images without a name.
	Access map[string]access `json:"access,omitempty"`
	Config Config            `json:"config"`
}

// index is images.json.
type index struct {
	Version int       `json:"version"`
	Images  []*record `json:"images"`
}

const indexVersion = 1

// Open opens the store below root, making it if need be, and clears away what a crash left unfinished. [ErrInUse] if another process
// has it open.
func Open(root string, o Options) (*Store, error) {
	o = o.withDefaults()
	platform, err := parsePlatform(o.Platform)
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{"", layersDir, blobsDir, partialDir, tmpDir, containersDir} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			return nil, fmt.Errorf("open image store: %w", err)
		}
	}
	// Containers with another user must be able to pass through to their root file systems, but not to list.
	for _, dir := range []string{"", layersDir, containersDir} {
		if err := os.Chmod(filepath.Join(root, dir), 0o711); err != nil {
			return nil, err
		}
	}
	lock, err := lockStore(filepath.Join(root, lockFile))
	if err != nil {
		return nil, err
	}
	s := &Store{
		root: root, options: o, platform: platform, lock: lock,
		download: make(chan struct{}, o.ParallelDownloads),
		images:   map[string]*record{}, mounts: map[string]mountRecord{}, held: map[string]int{},
	}
	if err := s.recover(); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("open image store %s: %w", root, err)
	}
	return s, nil
}

func (o Options) withDefaults() Options {
	if o.MaxLayerSize <= 0 {
		o.MaxLayerSize = defaultMaxLayerSize
	}
	if o.MaxLayerFiles <= 0 {
		o.MaxLayerFiles = defaultMaxLayerFiles
	}
	if o.ParallelDownloads <= 0 {
		o.ParallelDownloads = defaultParallel
	}
	if o.Platform == "" {
		o.Platform = runtime.GOOS + "/" + runtime.GOARCH
	}
	return o
}

func lockStore(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("image store %s: %w by another process", filepath.Dir(path), ErrInUse)
		}
		return nil, err
	}
	return f, nil
}

// recover reads what is there and removes what no name leads to.
func (s *Store) recover() error {
	if err := s.emptyTmp(); err != nil {
		return err
	}
	if err := s.readIndex(); err != nil {
		return err
	}
	if err := s.readMounts(); err != nil {
		return err
	}
	return s.sweep()
}

func (s *Store) emptyTmp() error {
	entries, err := os.ReadDir(s.path(tmpDir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := rmtree.Remove(s.path(tmpDir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// readIndex reads images.json. Images that lack a layer (somebody removed it by hand) are left out: they will be pulled again.
func (s *Store) readIndex() error {
	data, err := os.ReadFile(s.path(indexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var ix index
	if err := json.Unmarshal(data, &ix); err != nil {
		return fmt.Errorf("%s: %w (the images in this store must be pulled again: move the file away)", s.path(indexFile), err)
	}
	if ix.Version != indexVersion {
		return fmt.Errorf("%s: version %d, this program knows %d", s.path(indexFile), ix.Version, indexVersion)
	}
	for _, r := range ix.Images {
		if !slices.ContainsFunc(r.Layers, func(l string) bool { return !s.hasLayer(l) }) {
			s.images[r.ID] = r
		}
	}
	return nil
}

// writeIndexLocked makes the images as they are in memory durable.
func (s *Store) writeIndexLocked() error {
	ix := index{Version: indexVersion}
	for _, r := range s.images {
		ix.Images = append(ix.Images, r)
	}
	slices.SortFunc(ix.Images, func(a, b *record) int { return strings.Compare(a.ID, b.ID) })
	data, err := json.MarshalIndent(ix, "", " ")
	if err != nil {
		return err
	}
	if err := writeFile(s.path(indexFile), data); err != nil {
		return fmt.Errorf("record images: %w", err)
	}
	return nil
}

// Close gives the store up for others. Mounts stay.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.writeIndexLocked() // for the times of last use
	return errors.Join(err, s.lock.Close())
}

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.root}, elem...)...)
}

// Get finds an image by name (with tag or digest; short names as docker.io's) or by ID ("sha256:…" or its hex, or a unique prefix of at
// least 12 digits). [ErrNotFound].
func (s *Store) Get(ref string) (Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.findLocked(ref)
	if err != nil {
		return Image{}, err
	}
	return r.image(), nil
}

func (s *Store) findLocked(ref string) (*record, error) {
	if r := s.byIDLocked(ref); r != nil {
		return r, nil
	}
	full, err := Normalize(ref)
	if err != nil {
		return nil, err
	}
	for _, r := range s.images {
		if slices.Contains(r.Tags, full) || slices.Contains(r.Digests, full) {
			return r, nil
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrNotFound, ref)
}

func (s *Store) byIDLocked(ref string) *record {
	digits := strings.TrimPrefix(ref, "sha256:")
	if len(digits) < minIDPrefix || strings.Trim(digits, "0123456789abcdef") != "" {
		return nil
	}
	var found *record
	for id, r := range s.images {
		if strings.HasPrefix(id, "sha256:"+digits) {
			if found != nil {
				return nil
			}
			found = r
		}
	}
	return found
}

// List returns all images, by ID.
func (s *Store) List() []Image {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Image, 0, len(s.images))
	for _, r := range s.images {
		list = append(list, r.image())
	}
	slices.SortFunc(list, func(a, b Image) int { return strings.Compare(a.ID, b.ID) })
	return list
}

func (r *record) image() Image {
	return Image{
		ID: r.ID, Digest: r.Digest, RepoTags: slices.Clone(r.Tags), RepoDigests: slices.Clone(r.Digests), Size: r.Size,
		Created: r.Created, Loaded: r.Loaded, Config: r.Config, LastUsed: r.LastUsed, Pinned: r.Pinned,
	}
}

// Tag gives an image one more name.
func (s *Store) Tag(_ context.Context, ref, name string) error {
	full, err := Normalize(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.findLocked(ref)
	if err != nil {
		return err
	}
	return s.changeLocked(func() {
		s.nameLocked(r, full)
		r.Access = loaded([]string{full}).addTo(r.Access, r.ID)
	})
}

// Pin keeps an image from GC, or lets it go.
func (s *Store) Pin(ref string, pinned bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.findLocked(ref)
	if err != nil {
		return err
	}
	return s.changeLocked(func() { r.Pinned = pinned })
}

// nameLocked gives a name to one image and takes it from any other.
func (s *Store) nameLocked(r *record, full string) {
	isDigest := strings.Contains(full, "@")
	for _, other := range s.images {
		if other != r && !isDigest {
			other.Tags = slices.DeleteFunc(other.Tags, func(t string) bool { return t == full })
		}
	}
	list := &r.Tags
	if isDigest {
		list = &r.Digests
	}
	if !slices.Contains(*list, full) {
		*list = append(*list, full)
		slices.Sort(*list)
	}
}

// changeLocked applies a change to the images and makes it durable; if that fails, memory is as before.
func (s *Store) changeLocked(change func()) error {
	before := make(map[string]*record, len(s.images))
	copies := make(map[*record]record, len(s.images))
	for id, r := range s.images {
		before[id] = r
		c := *r
		c.Tags, c.Digests = slices.Clone(r.Tags), slices.Clone(r.Digests)
		copies[r] = c
	}
	change()
	err := s.writeIndexLocked()
	if err != nil {
		s.images = before
		for r, c := range copies {
			*r = c
		}
	}
	return err
}

// Remove takes a name away, or, given an ID, all names; with the last name go the layers that no other image has. [ErrNotFound], [ErrInUse].
func (s *Store) Remove(_ context.Context, ref string) error {
	s.mu.Lock()
	r, err := s.findLocked(ref)
	if err == nil {
		err = s.removeLocked(r, ref)
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.sweep()
}

func (s *Store) removeLocked(r *record, ref string) error {
	if s.byIDLocked(ref) == nil {
		full, err := Normalize(ref)
		if err != nil {
			return err
		}
		if len(r.Tags)+len(r.Digests) > 1 && (len(r.Tags) > 1 || !slices.Contains(r.Tags, full)) {
			return s.changeLocked(func() {
				r.Tags = slices.DeleteFunc(r.Tags, func(t string) bool { return t == full })
				r.Digests = slices.DeleteFunc(r.Digests, func(t string) bool { return t == full })
			})
		}
	}
	if id, used := s.mountedLocked(r.ID); used {
		return fmt.Errorf("image %s is %w by container %s", ref, ErrInUse, id)
	}
	return s.changeLocked(func() { delete(s.images, r.ID) })
}

// sweep removes layers and blobs that no image, mount or unfinished work needs. What goes is moved out of sight at once, and removed
// without holding up others: a large layer takes seconds.
func (s *Store) sweep() error {
	s.mu.Lock()
	layers, blobs := s.neededLocked()
	doomed, err := os.MkdirTemp(s.path(tmpDir), "gone-*")
	if err == nil {
		err = errors.Join(s.moveUnneededLocked(layersDir, layers, doomed), s.moveUnneededLocked(blobsDir, blobs, doomed))
	}
	s.mu.Unlock()
	if doomed != "" {
		err = errors.Join(err, rmtree.Remove(doomed))
	}
	return errors.Join(err, s.sweepPartial())
}

// neededLocked lists the names of the layers and blobs that must stay.
func (s *Store) neededLocked() (layers, blobs map[string]bool) {
	layers, blobs = map[string]bool{}, map[string]bool{}
	for _, r := range s.images {
		blobs[hexOf(r.ID)], blobs[hexOf(r.Digest)] = true, true
		for _, l := range r.Layers {
			layers[hexOf(l)] = true
		}
	}
	for _, m := range s.mounts {
		for _, l := range m.Layers {
			layers[hexOf(l)] = true
		}
	}
	for digest := range s.held {
		layers[hexOf(digest)], blobs[hexOf(digest)] = true, true
	}
	return layers, blobs
}

// moveUnneededLocked takes what is not needed out of a directory. A half-removed layer must never be taken for a whole one.
func (s *Store) moveUnneededLocked(dir string, needed map[string]bool, to string) error {
	entries, err := os.ReadDir(s.path(dir))
	if err != nil {
		return err
	}
	var all error
	for _, e := range entries {
		if !needed[e.Name()] {
			all = errors.Join(all, os.Rename(s.path(dir, e.Name()), filepath.Join(to, filepath.Base(dir)+"-"+e.Name())))
		}
	}
	return all
}

// hexOf is the part of a digest that names files.
func hexOf(digest string) string { return strings.TrimPrefix(digest, "sha256:") }

func parsePlatform(s string) (v1.Platform, error) {
	p, err := v1.ParsePlatform(s)
	if err != nil || p.OS == "" || p.Architecture == "" {
		return v1.Platform{}, fmt.Errorf("platform %q is not os/arch[/variant]", s)
	}
	return *p, nil
}
