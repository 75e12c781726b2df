package volume

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// ErrNotFile: what a path in a volume leads to is no regular file, or too large.
var ErrNotFile = errors.New("not a file that can be read")

// ReadFile reads a file of one of the pod's emptyDir volumes, of at most limit bytes. Its containers write there: no link in it leads out,
// and what is not a regular file is not opened. fs.ErrNotExist if there is no such file, volume or emptyDir.
func (m *Manager) ReadFile(p *corev1.Pod, volume, path string, limit int64) ([]byte, error) {
	root, err := unix.Open(m.dir(p.UID, pluginEmptyDir, volume), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open volume", Path: volume, Err: err}
	}
	defer unix.Close(root)
	fd, err := openIn(root, path)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("%s: %w", path, ErrNotFile)
	}
	f, err := os.Open(procLink(fd))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: %w: it has more than %d bytes", path, ErrNotFile, limit)
	}
	return data, err
}
