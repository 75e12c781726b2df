package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"bareboat.dev/kubelet/cgroup"
	"golang.org/x/sys/unix"
)

// shimLogLimit bounds how much of a failed podshim's own output goes into an error.
const shimLogLimit = 2048

// Launch starts the podshim at the given path for a new pod and returns when it listens. [ErrExists] if the state directory holds a
// pod already (then [Attach] or [Reap]). ctx bounds the launch only, not the pod.
func Launch(ctx context.Context, binary string, config PodConfig) (*Pod, error) {
	if config.ShimCgroup == "" {
		config.ShimCgroup = DefaultShimCgroup
	}
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if err := prepareStateDir(config); err != nil {
		return nil, err
	}
	process, err := spawn(ctx, binary, config)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("launch podshim of pod %s: %w", config.UID, err), Reap(context.WithoutCancel(ctx), config.StateDir))
	}
	return &Pod{config: config, process: process}, nil
}

// prepareStateDir makes the directory and writes the configuration that podshim reads.
func prepareStateDir(config PodConfig) error {
	if err := os.MkdirAll(filepath.Dir(config.StateDir), 0o711); err != nil {
		return err
	}
	if err := os.Mkdir(config.StateDir, 0o711); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	data, err := json.Marshal(config)
	if err != nil {
		return err
	}
	// O_EXCL decides between two launches of one pod; a cut file is a launch that failed, for Reap.
	f, err := os.OpenFile(filepath.Join(config.StateDir, ConfigFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("pod %s in %s: %w", config.UID, config.StateDir, ErrExists)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// userNSVariable tells podshim of the pod's user namespace, and UserNSDescriptor is the number of the descriptor that it then has of it.
const (
	userNSVariable   = "PODSHIM_USERNS"
	UserNSDescriptor = 100
)

// spawn starts podshim in the pod's namespaces and its own cgroup. It says on descriptor 3 when it listens.
func spawn(ctx context.Context, binary string, config PodConfig) (Process, error) {
	log, err := os.OpenFile(filepath.Join(config.StateDir, LogFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return Process{}, err
	}
	defer log.Close()
	ready, child, err := os.Pipe()
	if err != nil {
		return Process{}, err
	}
	defer ready.Close()
	cmd := exec.Command(binary, config.StateDir)
	// One CPU and one malloc arena: there is little to do, and each more of either costs every pod memory (together some 300 KiB).
	cmd.Env = []string{"GOMAXPROCS=1", "MALLOC_ARENA_MAX=1", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	if r := config.UserNamespace; r != nil {
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d %d", userNSVariable, r.First, r.Length))
	}
	cmd.Dir = "/"
	cmd.Stderr = log
	cmd.ExtraFiles = []*os.File{child}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: cloneFlags(config)}
	err = cmd.Start()
	child.Close()
	if err != nil {
		return Process{}, err
	}
	go func() { _ = cmd.Wait() }() // it may outlive us; if it does not, it must not stay a zombie
	stop := context.AfterFunc(ctx, func() { _ = ready.Close() })
	defer stop()
	joinErr := joinCgroup(config.ShimCgroup, cmd.Process.Pid)
	var process Process
	if err := json.NewDecoder(ready).Decode(&process); err != nil {
		_ = cmd.Process.Kill()
		if ctx.Err() != nil {
			return Process{}, ctx.Err()
		}
		return Process{}, fmt.Errorf("it ended before it listened: %s", lastWords(filepath.Join(config.StateDir, LogFile)))
	}
	if joinErr != nil {
		_ = cmd.Process.Kill()
		return Process{}, fmt.Errorf("move podshim to its cgroup: %w", joinErr)
	}
	return process, nil
}

// joinCgroup moves podshim while it gets ready by itself.
func joinCgroup(path string, pid int) error {
	h, err := cgroup.Detect()
	if err != nil {
		return err
	}
	return h.Join(path, pid)
}

// cloneFlags are the namespaces that podshim is born in. Its mounts stay the host's, so that it sees root file systems mounted later.
//
// With a user namespace podshim makes the others itself, since they must belong to that one: see userns.c of cmd/podshim.
func cloneFlags(config PodConfig) uintptr {
	if config.UserNamespace != nil {
		return 0
	}
	flags := uintptr(unix.CLONE_NEWUTS)
	if config.HostNetwork {
		flags = 0 // the host's name belongs to the host's network
	} else {
		flags |= unix.CLONE_NEWNET
	}
	if !config.HostIPC {
		flags |= unix.CLONE_NEWIPC
	}
	return flags
}

// lastWords reads the beginning of podshim's log, for an error.
func lastWords(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	data, _ := io.ReadAll(io.LimitReader(f, shimLogLimit))
	if len(data) == 0 {
		return "no message"
	}
	return strings.TrimSpace(string(data))
}

// Attach finds the podshim that an earlier kubelet launched in stateDir. [ErrNotFound] if there was none, [ErrShimDead] if it is no
// longer: then [ReadState] has what was recorded, and [Reap] clears up.
func Attach(_ context.Context, stateDir string) (*Pod, error) {
	pod := &Pod{}
	if err := readJSON(filepath.Join(stateDir, ConfigFile), &pod.config); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("pod in %s: %w", stateDir, ErrNotFound)
		}
		return nil, fmt.Errorf("%w: %w", ErrShimDead, err) // cut short: the launch never ended
	}
	pod.config.StateDir = stateDir
	if err := readJSON(filepath.Join(stateDir, ProcessFile), &pod.process); err != nil {
		return nil, fmt.Errorf("pod %s: %w: %w", pod.config.UID, ErrShimDead, err)
	}
	if !alive(pod.process) {
		return nil, fmt.Errorf("pod %s: %w", pod.config.UID, ErrShimDead)
	}
	return pod, nil
}

// List returns the state directories of pods below root, alive or dead. None if root does not exist.
func List(root string) ([]string, error) {
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var dirs []string
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, filepath.Join(root, e.Name()))
		}
	}
	return dirs, nil
}
