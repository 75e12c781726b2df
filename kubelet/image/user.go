package image

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

const (
	// maxUserFile bounds what is read of an image's passwd and group files: 4 MiB are some 60,000 users.
	maxUserFile = 4 << 20
	maxUserID   = 1<<31 - 1
)

// ResolveUser turns a user as images and people write it ("", "1000", "web", "web:staff", "1000:1000") into numbers, by the passwd and
// group files in rootfs, opened without ever leaving it. "" is root. What is all digits is a number, whatever the files say; numbers need
// not be in the files, and must be below 2^31. [ErrNoUser] for a name that is not there.
func ResolveUser(rootfs, spec string) (User, error) {
	if err := checkNumbers(spec); err != nil {
		return User{}, err
	}
	passwd, err := readIn(rootfs, "etc/passwd")
	if err != nil {
		return User{}, err
	}
	group, err := readIn(rootfs, "etc/group")
	if err != nil {
		return User{}, err
	}
	exec, err := user.GetExecUser(spec, &user.ExecUser{Home: "/"}, strings.NewReader(passwd), strings.NewReader(group))
	if err != nil {
		return User{}, fmt.Errorf("%w: %q: %w", ErrNoUser, spec, err)
	}
	u := User{UID: uint32(exec.Uid), GID: uint32(exec.Gid), Home: exec.Home}
	for _, g := range exec.Sgids {
		if uint32(g) != u.GID {
			u.Groups = append(u.Groups, uint32(g))
		}
	}
	known, err := user.ParsePasswdFilter(strings.NewReader(passwd), func(p user.User) bool { return p.Uid == exec.Uid })
	if err == nil && len(known) > 0 {
		u.Name = known[0].Name
	}
	return u, nil
}

// checkNumbers refuses numbers that do not fit: they would be taken for names, or for other numbers.
func checkNumbers(spec string) error {
	name, group, hasGroup := strings.Cut(spec, ":")
	parts := []string{name}
	if hasGroup {
		parts = append(parts, group)
	}
	for _, p := range parts {
		if p == "" || strings.Trim(p, "+-0123456789") != "" {
			continue
		}
		if n, err := strconv.ParseInt(p, 10, 64); err != nil || n < 0 || n > maxUserID {
			return fmt.Errorf("%w: %q is not between 0 and %d", ErrNoUser, p, maxUserID)
		}
	}
	return nil
}

// readIn reads a small regular file below rootfs, which symbolic links in it cannot leave; a missing one is empty.
func readIn(rootfs, path string) (string, error) {
	root, err := unix.Open(rootfs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: rootfs, Err: err}
	}
	defer unix.Close(root)
	// First without opening: what the image calls a file may be a device, and opening those can do things.
	fd, err := openIn(root, path, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("open the image's %s: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return "", errors.Join(err, fmt.Errorf("%w: the image's %s is not a file", ErrUnsafe, path))
	}
	f, err := os.Open("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxUserFile+1))
	if err == nil && len(data) > maxUserFile {
		err = fmt.Errorf("%w: the image's %s", ErrTooLarge, path)
	}
	return string(data), err
}
