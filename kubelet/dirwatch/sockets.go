package dirwatch

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Sockets are a directory's sockets, by their paths; not those whose names begin with a dot.
func Sockets(dir string) (map[string]fs.FileInfo, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	all := map[string]fs.FileInfo{}
	for _, e := range entries {
		if e.Type()&os.ModeSocket == 0 || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone since
		}
		if err != nil {
			return nil, err
		}
		all[filepath.Join(dir, e.Name())] = info
	}
	return all, nil
}

// SameSocket says whether nobody has made a socket anew in between; the file system may use an inode's number again.
func SameSocket(a, b fs.FileInfo) bool { return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) }
