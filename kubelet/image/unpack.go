package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bareboat.dev/kubelet/rmtree"
)

// How a layer says that something of the layers below is gone (OCI image specification, "Whiteouts").
const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
	whiteoutMeta   = ".wh..wh." // aufs' own bookkeeping
)

// opaqueAttr marks a directory that hides those below it, for overlayfs.
const opaqueAttr = "trusted.overlay.opaque"

// unpacker writes one layer below a directory.
//
// Invariant: every path is resolved by the kernel with the layer's directory as its root, and the last element never followed: whatever
// names and links the archive has, nothing outside is opened, made, changed or removed.
type unpacker struct {
	root  int
	limit struct{ bytes, files int64 }
	size  int64 // bytes written
	files int64

	parent     int // directory of the last entry, kept open: entries come by directory
	parentPath string
	dirs       []dirTime // set last, since making entries changes them
	buf        []byte
}

type dirTime struct {
	path  string
	mtime time.Time
}

// unpack reads an uncompressed tar archive into dir and returns the bytes that its files take.
func unpack(ctx context.Context, archive io.Reader, dir string, maxBytes, maxFiles int64) (int64, error) {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(root)
	u := &unpacker{root: root, parent: -1, buf: make([]byte, 256<<10)}
	u.limit.bytes, u.limit.files = maxBytes, maxFiles
	defer u.closeParent()
	r := tar.NewReader(archive)
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, corrupt(err)
		}
		if err := u.entry(h, r); err != nil {
			return 0, fmt.Errorf("entry %q: %w", h.Name, err)
		}
	}
	return u.size, u.setDirTimes()
}

// corrupt marks what the archive or compression format's own errors are, but lets errors of ours and of the disk through.
func corrupt(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// entry unpacks one entry.
func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	if err := u.count(); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := entryPath(h.Name)
	if err != nil {
		return err
	}
	if name == "." {
		if h.Typeflag != tar.TypeDir {
			return fmt.Errorf("%w: the root is not a directory", ErrUnsafe)
		}
		return u.setRoot(h)
	}
	parent, err := u.openParent(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	if strings.HasPrefix(base, whiteoutPrefix) {
		return u.whiteout(parent, base)
	}
	hidden, err := u.clear(parent, base, h.Typeflag == tar.TypeDir)
	if err != nil {
		return err
	}
	if err := u.create(parent, base, name, h, content); err != nil {
		return err
	}
	if hidden && h.Typeflag == tar.TypeDir {
		if err := makeOpaque(parent, base); err != nil {
			return err
		}
	}
	return u.attributes(parent, base, h)
}

// count counts one more file, or directory that was not listed.
func (u *unpacker) count() error {
	if u.files++; u.files > u.limit.files {
		return fmt.Errorf("%w: more than %d files", ErrTooLarge, u.limit.files)
	}
	return nil
}

// entryPath makes an archive's name relative to the root. Names with ".." have no honest use.
func entryPath(name string) (string, error) {
	for element := range strings.SplitSeq(name, "/") {
		if element == ".." {
			return "", fmt.Errorf("%w: %q leads out of the image", ErrUnsafe, name)
		}
	}
	if strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("%w: NUL in a name", ErrUnsafe)
	}
	return path.Clean("./" + strings.TrimLeft(name, "/")), nil
}

// openParent opens a directory, making it and those above it if the archive did not.
func (u *unpacker) openParent(dir string) (int, error) {
	if u.parent >= 0 && u.parentPath == dir {
		return u.parent, nil
	}
	const flags = unix.O_PATH | unix.O_DIRECTORY
	fd, err := openIn(u.root, dir, flags)
	if errors.Is(err, unix.ENOENT) && dir != "." {
		above, upErr := u.openParent(path.Dir(dir))
		if upErr != nil {
			return -1, upErr
		}
		if err := u.count(); err != nil {
			return -1, err
		}
		// EEXIST: a dangling symbolic link is there, which openIn then reports.
		if err := unix.Mkdirat(above, path.Base(dir), 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
			return -1, err
		}
		fd, err = openIn(u.root, dir, flags)
	}
	if err != nil {
		return -1, fmt.Errorf("open %q: %w", dir, err)
	}
	u.closeParent()
	u.parent, u.parentPath = fd, dir
	return fd, nil
}

func (u *unpacker) closeParent() {
	if u.parent >= 0 {
		_ = unix.Close(u.parent)
	}
	u.parent, u.parentPath = -1, ""
}

// clear makes way for an entry: a later one replaces an earlier, except that a directory stays a directory. It says whether the name
// was whited out.
func (u *unpacker) clear(parent int, base string, dir bool) (hidden bool, err error) {
	var st unix.Stat_t
	err = unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if dir {
			return false, nil
		}
		return false, rmtree.RemoveAt(parent, base, base)
	}
	hidden = st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
	return hidden, unix.Unlinkat(parent, base, 0)
}

// makeOpaque has a directory hide what the layers below have in its place.
func makeOpaque(parent int, base string) error {
	fd, err := unix.Openat(parent, base, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return fsetxattr(fd, opaqueAttr, []byte("y"))
}

// whiteout hides something of the layers below. What this very layer brings is not affected, in whichever order they come.
func (u *unpacker) whiteout(parent int, base string) error {
	if base == whiteoutOpaque {
		return fsetxattr(parent, opaqueAttr, []byte("y"))
	}
	if strings.HasPrefix(base, whiteoutMeta) {
		return nil
	}
	target := strings.TrimPrefix(base, whiteoutPrefix)
	if target == "" || target == "." || target == ".." {
		return fmt.Errorf("%w: whiteout of %q", ErrUnsafe, target)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(parent, target, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return makeOpaque(parent, target)
		}
		return nil
	}
	return unix.Mknodat(parent, target, unix.S_IFCHR, 0)
}

// create makes the entry itself.
func (u *unpacker) create(parent int, base, name string, h *tar.Header, content io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		u.dirs = append(u.dirs, dirTime{name, h.ModTime})
		if err := unix.Mkdirat(parent, base, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		return nil
	case tar.TypeReg, '\x00': // NUL is how archives before POSIX say "file"
		return u.file(parent, base, content)
	case tar.TypeSymlink:
		return unix.Symlinkat(h.Linkname, parent, base)
	case tar.TypeLink:
		return u.hardLink(parent, base, h.Linkname)
	case tar.TypeFifo:
		return unix.Mknodat(parent, base, unix.S_IFIFO|0o600, 0)
	case tar.TypeChar, tar.TypeBlock:
		return u.device(parent, base, h)
	default:
		return fmt.Errorf("%w: entries of type %q", ErrUnsafe, h.Typeflag)
	}
}

// file writes a regular file. Holes of sparse files are written out and counted: an archive cannot claim more than the limit.
func (u *unpacker) file(parent int, base string, content io.Reader) (err error) {
	fd, err := unix.Openat(parent, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer func() { err = errors.Join(err, f.Close()) }()
	left := u.limit.bytes - u.size
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, io.LimitReader(content, left+1), u.buf)
	u.size += n
	if n > left {
		return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, u.limit.bytes)
	}
	return corrupt(err)
}

// hardLink links to what the layer itself has, which is all that it can see.
func (u *unpacker) hardLink(parent int, base, to string) error {
	target, err := entryPath(to)
	if err != nil {
		return err
	}
	dir, err := openIn(u.root, path.Dir(target), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", to, err)
	}
	defer unix.Close(dir)
	if err := unix.Linkat(dir, path.Base(target), parent, base, 0); err != nil {
		return fmt.Errorf("hard link to %q: %w", to, err)
	}
	return nil
}

// device makes a device node, which a container can use only as far as its device rules allow. Number 0, 0 is a whiteout to overlayfs,
// and of those we make our own.
func (u *unpacker) device(parent int, base string, h *tar.Header) error {
	kind := uint32(unix.S_IFCHR)
	if h.Typeflag == tar.TypeBlock {
		kind = unix.S_IFBLK
	}
	if h.Devmajor <= 0 || h.Devminor < 0 || h.Devmajor > 0xfff || h.Devminor > 0xfffff {
		return fmt.Errorf("%w: device %d, %d", ErrUnsafe, h.Devmajor, h.Devminor)
	}
	return unix.Mknodat(parent, base, kind|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
}

// attributes sets owner, mode, extended attributes and time of what was made. A hard link has those of its target.
func (u *unpacker) attributes(parent int, base string, h *tar.Header) error {
	if h.Typeflag == tar.TypeLink {
		return nil
	}
	if err := unix.Fchownat(parent, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("owner %d:%d: %w", h.Uid, h.Gid, err)
	}
	if h.Typeflag != tar.TypeSymlink {
		// After the owner, since changing that takes set-user-ID away.
		if err := unix.Fchmodat(parent, base, uint32(h.Mode)&0o7777, 0); err != nil {
			return err
		}
		if err := u.xattrs(parent, base, h); err != nil {
			return err
		}
	}
	return setTime(parent, base, h.ModTime)
}

// xattrs sets those extended attributes that images have reason to carry. "trusted" ones would speak to overlayfs.
func (u *unpacker) xattrs(parent int, base string, h *tar.Header) error {
	for key, value := range h.PAXRecords {
		attr, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok || attr != "security.capability" && !strings.HasPrefix(attr, "user.") {
			continue
		}
		fd, err := unix.Openat(parent, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = fsetxattr(fd, attr, []byte(value))
		_ = unix.Close(fd)
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("attribute %s: %w", attr, err)
		}
	}
	return nil
}

// fsetxattr sets an attribute through an O_PATH descriptor, which fsetxattr(2) does not take.
func fsetxattr(fd int, attr string, value []byte) error {
	return unix.Setxattr(fmt.Sprintf("/proc/self/fd/%d", fd), attr, value, 0)
}

func setTime(parent int, base string, t time.Time) error {
	if t.IsZero() || t.Unix() < 0 {
		t = time.Unix(0, 0)
	}
	ts, err := unix.TimeToTimespec(t)
	if err != nil {
		return nil // a time that the kernel cannot hold is not worth failing for
	}
	return unix.UtimesNanoAt(parent, base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// setRoot applies the archive's entry for the root directory.
func (u *unpacker) setRoot(h *tar.Header) error {
	self := fmt.Sprintf("/proc/self/fd/%d", u.root)
	if err := unix.Chown(self, h.Uid, h.Gid); err != nil {
		return err
	}
	return unix.Chmod(self, uint32(h.Mode)&0o7777)
}

// setDirTimes sets the directories' times, deepest last in the archive first here. One that was replaced meanwhile is passed over.
func (u *unpacker) setDirTimes() error {
	for i := len(u.dirs) - 1; i >= 0; i-- {
		d := u.dirs[i]
		parent, err := openIn(u.root, path.Dir(d.path), unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			continue
		}
		err = setTime(parent, path.Base(d.path), d.mtime)
		_ = unix.Close(parent)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}
