package host

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// groups are a host's own control groups, one in each hierarchy of the machine, so that two hosts never meet in one.
type groups struct{ dirs []string }

// newGroups makes them; they go when the test ends, with all that is left in them.
func newGroups(t T, name string) *groups {
	t.Helper()
	g := &groups{}
	own := fmt.Sprintf("bareboat-host-%s-%d", name, os.Getpid())
	for _, root := range hierarchies() {
		dir := filepath.Join(root, own)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
		// A cpuset without CPUs takes no process (cpuset(7)).
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if data, err := os.ReadFile(filepath.Join(root, file)); err == nil && strings.HasSuffix(root, "cpuset") {
				_ = os.WriteFile(filepath.Join(dir, file), data, 0o644)
			}
		}
		g.dirs = append(g.dirs, dir)
	}
	t.Cleanup(g.remove)
	return g
}

// hierarchies are the mount points of the machine's control groups: one on v2, one for each controller on v1.
func hierarchies() []string {
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil
	}
	var roots []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 2 && (f[2] == "cgroup" || f[2] == "cgroup2") && strings.HasPrefix(f[1], "/sys/fs/cgroup") {
			roots = append(roots, f[1])
		}
	}
	return roots
}

// start starts a command in the groups: a shell that joins them and then becomes the command, so that its cgroup namespace begins there.
func (g *groups) start(cmd *exec.Cmd) error {
	shell, err := exec.LookPath("sh")
	if err != nil {
		return err
	}
	script := "for d in $HOST_CGROUPS; do echo $$ > $d/cgroup.procs || exit 1; done; exec \"$@\""
	cmd.Args = append([]string{"sh", "-c", script, "sh", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = shell
	cmd.Env = append(cmd.Env, "HOST_CGROUPS="+strings.Join(g.dirs, " "))
	return cmd.Start()
}

// remove kills what is left and removes the groups, those below first.
func (g *groups) remove() {
	for _, top := range g.dirs {
		var dirs []string
		_ = filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for i := len(dirs) - 1; i >= 0; i-- {
			removeGroup(dirs[i])
		}
	}
}

func removeGroup(dir string) {
	for range 200 { // a killed process is a member until it has ended: 200 × 10 ms
		if err := syscall.Rmdir(dir); err == nil || errors.Is(err, syscall.ENOENT) {
			return
		}
		data, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		for _, pid := range strings.Fields(string(data)) {
			if n, err := strconv.Atoi(pid); err == nil {
				_ = syscall.Kill(n, syscall.SIGKILL)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}
