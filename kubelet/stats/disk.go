package stats

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"bareboat.dev/kubelet/du"
)

// diskAge is for how long a measurement of files is good: it means walking them, and scrapers come every few seconds.
const diskAge = time.Minute

// diskUse is what files take, in bytes and inodes.
type diskUse struct {
	at            time.Time
	bytes, inodes uint64
}

// measured returns what a measurement of that name has given in the last minute, or gives now.
func (c *Collector) measured(name string, measure func() (bytes, inodes uint64, ok bool)) (diskUse, bool) {
	now := time.Now()
	c.mu.Lock()
	u, ok := c.disk[name]
	c.mu.Unlock()
	if ok && now.Sub(u.at) < diskAge {
		return u, true
	}
	bytes, inodes, ok := measure()
	if !ok {
		return diskUse{}, false
	}
	u = diskUse{now, bytes, inodes}
	c.mu.Lock()
	c.disk[name] = u
	c.mu.Unlock()
	return u, true
}

// tree measures a folder; what of it cannot be read is not counted.
func tree(dir string) (bytes, inodes uint64, ok bool) {
	size, err := du.Measure(dir)
	return uint64(size.Bytes), uint64(size.Inodes), !errors.Is(err, fs.ErrNotExist)
}

// fileSystem is what statfs(2) says of the file system that path is on; nil if there is no such path.
func fileSystem(path string) *FS {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return nil
	}
	size := uint64(st.Bsize)
	return &FS{Time: time.Now(), AvailableBytes: st.Bavail * size, CapacityBytes: st.Blocks * size, UsedBytes: (st.Blocks - st.Bfree) * size,
		InodesFree: st.Ffree, Inodes: st.Files, InodesUsed: st.Files - st.Ffree}
}

// ofTree is the file system that path is on, with what the folder itself uses.
func ofTree(path string, u diskUse) *FS {
	f := fileSystem(path)
	if f == nil {
		return nil
	}
	f.Time, f.UsedBytes, f.InodesUsed = u.at, u.bytes, u.inodes
	return f
}

// isMount says whether a folder is on another file system than the folder that it is in.
func isMount(dir string) bool {
	var own, parent unix.Stat_t
	return unix.Lstat(dir, &own) == nil && unix.Lstat(filepath.Dir(dir), &parent) == nil && own.Dev != parent.Dev
}

// names lists what is in a folder; nothing if there is none.
func names(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	list := make([]string, 0, len(entries))
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}
