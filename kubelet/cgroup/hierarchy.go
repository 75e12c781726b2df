package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Errors of this package, to be matched with errors.Is.
var (
	// ErrNotFound: there is no such group.
	ErrNotFound = errors.New("cgroup not found")
	// ErrUnavailable: the host has no control groups that we could use.
	ErrUnavailable = errors.New("no cgroup file system at /sys/fs/cgroup")
	// ErrInvalid: a path that leaves the hierarchy, or a limit that makes no sense.
	ErrInvalid = errors.New("invalid cgroup")
)

// mountPoint is where every Linux distribution mounts control groups, and where libcontainer looks on v2.
const mountPoint = "/sys/fs/cgroup"

// controllers are those that we use, in the order in which v1 groups are made.
func controllers() []string {
	return []string{"cpuset", "cpu", "cpuacct", "memory", "pids", "blkio", "hugetlb", "devices", "freezer", "systemd"}
}

// Hierarchy is the host's control groups. Its methods may be called from any number of goroutines.
type Hierarchy struct {
	version Version
	// roots maps a controller to the mount point of its hierarchy (v1), or "" to that of the unified one (v2).
	roots map[string]string
	// distinct lists the hierarchies' mount points, each once: cpu and cpuacct are often one.
	distinct []string
}

// Detect finds the host's control groups. It looks only at the file system and keeps nothing.
func Detect() (*Hierarchy, error) { return detect(mountPoint) }

func detect(root string) (*Hierarchy, error) {
	if hasMagic(root, unix.CGROUP2_SUPER_MAGIC) {
		return &Hierarchy{version: V2, roots: map[string]string{"": root}, distinct: []string{root}}, nil
	}
	h := &Hierarchy{version: V1, roots: map[string]string{}}
	for _, c := range controllers() {
		dir, err := filepath.EvalSymlinks(filepath.Join(root, c))
		if err != nil || !hasMagic(dir, unix.CGROUP_SUPER_MAGIC) {
			continue
		}
		h.roots[c] = dir
		if !slices.Contains(h.distinct, dir) {
			h.distinct = append(h.distinct, dir)
		}
	}
	if len(h.roots) == 0 {
		return nil, ErrUnavailable
	}
	// On a hybrid host libcontainer makes every group in the v2 hierarchy, too, which must go with the others.
	if dir := filepath.Join(root, "unified"); hasMagic(dir, unix.CGROUP2_SUPER_MAGIC) {
		h.distinct = append(h.distinct, dir)
	}
	return h, nil
}

func hasMagic(path string, magic int64) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && int64(st.Type) == magic
}

// Version says which of the kernel's interfaces the host uses.
func (h *Hierarchy) Version() Version { return h.version }

// Controllers lists the controllers that limits can be set with.
func (h *Hierarchy) Controllers() []string {
	if h.version == V2 {
		data, err := os.ReadFile(filepath.Join(h.roots[""], "cgroup.controllers"))
		if err != nil {
			return nil
		}
		return strings.Fields(string(data))
	}
	var names []string
	for _, c := range controllers() {
		if _, ok := h.roots[c]; ok {
			names = append(names, c)
		}
	}
	return names
}

// dir is the directory of a group under a controller; "" if the host has no such controller.
func (h *Hierarchy) dir(controller, path string) string {
	root, ok := h.roots[controller]
	if h.version == V2 {
		root, ok = h.roots[""], true
	}
	if !ok {
		return ""
	}
	return filepath.Join(root, path)
}

// clean makes a path relative and refuses one that would leave the hierarchy or be all of it.
func clean(path string) (string, error) {
	rel := strings.Trim(path, "/")
	if rel == "" || !filepath.IsLocal(rel) || filepath.Clean(rel) == "." {
		return "", fmt.Errorf("%w: path %q", ErrInvalid, path)
	}
	return filepath.Clean(rel), nil
}

// Exists says whether the group exists, in any hierarchy.
func (h *Hierarchy) Exists(path string) bool {
	rel, err := clean(path)
	if err != nil {
		return false
	}
	for _, root := range h.distinct {
		if _, err := os.Stat(filepath.Join(root, rel)); err == nil {
			return true
		}
	}
	return false
}

// Create makes the group and those above it, in all hierarchies. Existing ones stay as they are.
func (h *Hierarchy) Create(path string) error {
	rel, err := clean(path)
	if err != nil {
		return err
	}
	for _, root := range h.distinct {
		dir := root
		for _, name := range strings.Split(rel, "/") {
			if h.version == V2 {
				if err := enableControllers(dir); err != nil {
					return err
				}
			}
			dir = filepath.Join(dir, name)
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			if root == h.roots["cpuset"] {
				if err := inheritCPUSet(dir); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// enableControllers passes all controllers that a v2 group has on to its children.
func enableControllers(dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	enabled, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return err
	}
	have := strings.Fields(string(enabled))
	for _, c := range strings.Fields(string(data)) {
		if slices.Contains(have, c) {
			continue
		}
		// One at a time: a controller that cannot be enabled (cpu with real-time processes around) must not keep out the others.
		if err := write(dir, "cgroup.subtree_control", "+"+c); err != nil && (c == "memory" || c == "pids") {
			return err
		}
	}
	return nil
}

// inheritCPUSet fills a new v1 cpuset from its parent: without, no process can be moved into it.
func inheritCPUSet(dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		own, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(own)) != "" {
			continue
		}
		parent, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
		if err != nil {
			return err
		}
		if err := write(dir, file, strings.TrimSpace(string(parent))); err != nil {
			return err
		}
	}
	return nil
}

// Join makes the group if it is missing and moves a process into it, in all hierarchies.
func (h *Hierarchy) Join(path string, pid int) error {
	rel, err := clean(path)
	if err != nil {
		return err
	}
	// On v1 the group mostly is there, and looking for it costs more than trying: some thirty calls in ten hierarchies.
	if h.version == V1 && h.enter(rel, pid) == nil {
		return nil
	}
	if err := h.Create(rel); err != nil {
		return err
	}
	return h.enter(rel, pid)
}

// enter moves a process into an existing group.
func (h *Hierarchy) enter(rel string, pid int) error {
	for _, root := range h.distinct {
		if err := write(filepath.Join(root, rel), "cgroup.procs", strconv.Itoa(pid)); err != nil {
			return err
		}
	}
	return nil
}

// write sets a control file. The error names the file and the value: "invalid argument" alone helps nobody.
func write(dir, file, value string) error {
	path := filepath.Join(dir, file)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %q to %s: %w", value, path, err)
	}
	return nil
}
