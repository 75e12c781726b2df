package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/daemon"
	"bareboat.dev/kubelet/agent"
	"bareboat.dev/kubelet/cgroup"
	"bareboat.dev/kubelet/config"
	"bareboat.dev/kubelet/image"
	"bareboat.dev/kubelet/network"
	"bareboat.dev/kubelet/network/cni"
	"bareboat.dev/kubelet/shim"
	"bareboat.dev/kubelet/volume"
)

// cleanupLimit bounds the whole.
const cleanupLimit = 2 * time.Minute

// cleanup ends all pods and leaves the host as it was before there was a kubelet, but for the image store.
func cleanup(ctx context.Context, env *daemon.Env, c *config.Config) error {
	if os.Geteuid() != 0 {
		return errors.New("--cleanup must run as root: it unmounts and removes what the kubelet made")
	}
	ctx, cancel := context.WithTimeout(ctx, cleanupLimit)
	defer cancel()
	images, err := openImages(c)
	if err != nil {
		return fmt.Errorf("%w; stop it first", err)
	}
	defer images.Close()
	err = errors.Join(endPods(ctx, env, c), removeMounts(ctx, c, images), removeHostTraces(ctx, c))
	if err == nil {
		env.Log.Info("the host is as it was before the kubelet")
	}
	return err
}

// endPods ends every pod, all at the same time.
func endPods(ctx context.Context, env *daemon.Env, c *config.Config) error {
	dirs, err := shim.List(c.StateDir)
	if err != nil {
		return err
	}
	errs := make([]error, len(dirs))
	var wg sync.WaitGroup
	shims := agent.PodShims{Binary: c.Podshim}
	for i, dir := range dirs {
		wg.Go(func() {
			s, err := shims.Attach(ctx, dir)
			if err != nil {
				errs[i] = shim.Reap(ctx, dir)
				return
			}
			endGently(ctx, s, c.CleanupGracePeriod.Duration)
			errs[i] = s.Shutdown(ctx)
		})
	}
	wg.Wait()
	env.Log.Info("pods ended", "pods", len(dirs))
	return errors.Join(errs...)
}

// endGently asks a pod's containers to end and waits for those that listen, up to the grace.
func endGently(ctx context.Context, s agent.Sandbox, grace time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	state, err := s.State(ctx)
	if err != nil {
		return
	}
	live := map[string]bool{}
	for _, c := range state.Containers {
		if c.Phase == shim.Running && s.Signal(ctx, c.ID, syscall.SIGTERM) == nil && listens(c.PID) {
			live[c.ID] = true
		}
	}
	if len(live) == 0 {
		return
	}
	for e, err := range s.Events(ctx) {
		if err != nil {
			return
		}
		if delete(live, e.ID); len(live) == 0 {
			return
		}
	}
}

// listens says whether a process does anything about SIGTERM. The kernel drops the signal for the first process of a PID namespace
// that has no handler for it (pid_namespaces(7)): such a container, as a bare sleep, would be waited for in vain.
func listens(pid int) bool {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return true // it ends, or it has ended: its exit will tell
	}
	first, handled := false, false
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		fields := strings.Fields(value)
		switch {
		case key == "NSpid" && len(fields) > 1: // in the host's namespace, and in its own
			first = fields[len(fields)-1] == "1"
		case key == "SigCgt" && len(fields) == 1:
			mask, err := strconv.ParseUint(fields[0], 16, 64)
			handled = err != nil || mask&(1<<(syscall.SIGTERM-1)) != 0
		}
	}
	return handled || !first
}

// removeMounts removes root file systems, volumes and pod directories.
func removeMounts(ctx context.Context, c *config.Config, images *image.Store) error {
	ids, err := images.Mounts()
	for _, id := range ids {
		err = errors.Join(err, images.Unmount(ctx, id))
	}
	volumes := volume.New(volume.Config{Root: c.RootDir})
	entries, e := os.ReadDir(filepath.Join(c.RootDir, "pods"))
	if e != nil && !errors.Is(e, os.ErrNotExist) {
		err = errors.Join(err, e)
	}
	for _, pod := range entries {
		err = errors.Join(err, volumes.RemovePodDir(types.UID(pod.Name())))
	}
	return err
}

// removeHostTraces removes network, control groups, logs and state.
func removeHostTraces(ctx context.Context, c *config.Config) error {
	own, err := config.Prefixes(c.PodCIDR)
	if err != nil {
		return err
	}
	cluster, err := config.Prefixes(c.ClusterCIDR)
	if err != nil {
		return err
	}
	err = errors.Join(cni.Cleanup(ctx, cniConfig(c)), network.Cleanup(ctx, network.Config{PodCIDRs: own, ClusterCIDRs: cluster, StateDir: c.NetworkState}))
	if h, e := cgroup.Detect(); e == nil {
		err = errors.Join(err, h.Tree(c.CgroupRoot).Remove(ctx), h.Remove(c.ShimCgroup))
		if parent := filepath.Dir(c.ShimCgroup); parent != "." {
			err = errors.Join(err, h.Remove(parent))
		}
	}
	return errors.Join(err, removeLogs(c), os.RemoveAll(c.StateDir))
}

// removeLogs removes the logs of pods and the links to them; both directories may hold others' files.
func removeLogs(c *config.Config) error {
	var err error
	if c.LinkDir != "" {
		links, _ := filepath.Glob(filepath.Join(c.LinkDir, "*.log"))
		for _, l := range links {
			if target, e := os.Readlink(l); e == nil && filepath.Dir(filepath.Dir(filepath.Dir(target))) == c.LogDir {
				err = errors.Join(err, os.Remove(l))
			}
		}
	}
	dirs, _ := filepath.Glob(filepath.Join(c.LogDir, "*_*_*"))
	for _, d := range dirs {
		err = errors.Join(err, os.RemoveAll(d))
	}
	return err
}
