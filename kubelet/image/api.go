package image

import (
	"context"
	"errors"
	"io"
	"time"
)

// Store is an image store. See the package comment.
type Store struct{}

// Open opens the store below root, making it if need be, and clears away what a crash left unfinished. [ErrInUse] if another process
// has it open.
func Open(root string, o Options) (*Store, error) { return nil, errors.ErrUnsupported }

// Close gives the store up for others. Mounts stay.
func (s *Store) Close() error { return errors.ErrUnsupported }

// Pull makes the image that ref names present and current, and returns it. A reference without a tag means :latest.
func (s *Store) Pull(ctx context.Context, ref string, o PullOptions) (Image, error) {
	return Image{}, errors.ErrUnsupported
}

// Load imports an archive: an OCI image layout as tar, or what docker save writes, compressed with gzip or zstd or not. It returns
// the images under the names that the archive gives them.
func (s *Store) Load(ctx context.Context, archive io.Reader) ([]Image, error) {
	return nil, errors.ErrUnsupported
}

// Get finds an image by name (with tag or digest; short names as docker.io's) or by ID ("sha256:…" or its hex, or a unique prefix of at
// least 12 digits). [ErrNotFound].
func (s *Store) Get(ref string) (Image, error) { return Image{}, errors.ErrUnsupported }

// List returns all images, by ID.
func (s *Store) List() []Image { return nil }

// Tag gives an image one more name.
func (s *Store) Tag(ctx context.Context, ref, name string) error { return errors.ErrUnsupported }

// Remove takes a name away, or, given an ID, all names; with the last name go the layers that no other image has. [ErrNotFound], [ErrInUse].
func (s *Store) Remove(ctx context.Context, ref string) error { return errors.ErrUnsupported }

// Mount gives a container its own writable root file system made of the image's layers, and returns its path. Mounting again for the
// same container returns the same path. The image cannot be removed until Unmount.
func (s *Store) Mount(ctx context.Context, imageID, containerID string) (rootfs string, err error) {
	return "", errors.ErrUnsupported
}

// Unmount removes a container's root file system with all that it wrote. A missing one is fine.
func (s *Store) Unmount(ctx context.Context, containerID string) error { return errors.ErrUnsupported }

// Mounts lists the containers that have a root file system, mounted or (after a reboot) not.
func (s *Store) Mounts() ([]string, error) { return nil, errors.ErrUnsupported }

// WritableUsage is what a container has written to its root file system, in bytes and inodes.
func (s *Store) WritableUsage(containerID string) (bytes, inodes int64, err error) {
	return 0, 0, errors.ErrUnsupported
}

// Usage is what the file system that holds the store has, and has used.
func (s *Store) Usage() (FSUsage, error) { return FSUsage{}, errors.ErrUnsupported }

// FSUsage describes a file system.
type FSUsage struct {
	Path                                 string
	CapacityBytes, AvailableBytes        uint64
	InodesTotal, InodesFree, ImagesBytes uint64
}

// GC removes unused images, least recently used first, as the policy says.
func (s *Store) GC(ctx context.Context, now time.Time, p GCPolicy) (GCResult, error) {
	return GCResult{}, errors.ErrUnsupported
}

// ResolveUser turns a user as images and people write it ("", "1000", "web", "web:staff", "1000:1000") into numbers, by the passwd and
// group files in rootfs, opened without ever leaving it. "" is root. Numbers need not be in the files; they must be below 2^31.
// [ErrNoUser] for a name that is not there.
func ResolveUser(rootfs, user string) (User, error) { return User{}, errors.ErrUnsupported }

// Normalize gives the full form of a name: "busybox" → "docker.io/library/busybox:latest". [ErrInvalidName].
func Normalize(ref string) (string, error) { return "", errors.ErrUnsupported }
