package server

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runc/libcontainer/exeseal"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"bareboat.dev/kubelet/shim"
)

// defaultShmSize is the customary size of a pod's /dev/shm.
const defaultShmSize = 64 << 20

// PauseArg is the argument with which podshim runs as the first process of a shared PID namespace, without ever starting the Go
// runtime: see package main's pause.c.
const PauseArg = "pause"

// preparePod sets up the namespaces that podshim was born in, and what the containers share.
func (s *Server) preparePod() error {
	c := &s.config
	if c.Hostname != "" && !c.HostNetwork {
		if err := unix.Sethostname([]byte(c.Hostname)); err != nil {
			return fmt.Errorf("set host name %q: %w", c.Hostname, err)
		}
	}
	if !c.HostNetwork {
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("bring up the loopback interface: %w", err)
		}
	}
	if err := s.writeSysctls(); err != nil {
		return err
	}
	if !c.HostIPC {
		if err := s.mountShm(); err != nil {
			return err
		}
	}
	if c.ShareProcessNamespace {
		return s.startPause()
	}
	return nil
}

// writeSysctls sets those kernel parameters that belong to namespaces of the pod's own.
func (s *Server) writeSysctls() error {
	for name, value := range s.config.Sysctls {
		if !s.namespaced(name) {
			return fmt.Errorf("%w: sysctl %q is not confined to a namespace of this pod", shim.ErrInvalid, name)
		}
		// Names are written with dots or slashes; whichever comes first separates, the other is part of a name.
		path := name
		if i := strings.IndexAny(name, "./"); i >= 0 && name[i] == '.' {
			path = strings.NewReplacer(".", "/", "/", ".").Replace(name)
		}
		if !filepath.IsLocal(path) {
			return fmt.Errorf("%w: sysctl %q", shim.ErrInvalid, name)
		}
		if err := os.WriteFile(filepath.Join("/proc/sys", path), []byte(value), 0); err != nil {
			return fmt.Errorf("%w: set sysctl %s: %s", shim.ErrInvalid, name, err)
		}
	}
	return nil
}

// namespaced says whether a sysctl is one that only this pod sees (ipc_namespaces(7), network_namespaces(7)).
func (s *Server) namespaced(name string) bool {
	dotted := name
	if i := strings.IndexAny(name, "./"); i >= 0 && name[i] == '/' {
		dotted = strings.NewReplacer(".", "/", "/", ".").Replace(name)
	}
	ipc := []string{
		"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
		"kernel.shm_rmid_forced",
	}
	switch {
	case slices.Contains(ipc, dotted), strings.HasPrefix(dotted, "fs.mqueue."):
		return !s.config.HostIPC
	case strings.HasPrefix(dotted, "net."):
		return !s.config.HostNetwork
	default:
		return false
	}
}

// mountShm makes the memory file system that the pod's containers share.
func (s *Server) mountShm() error {
	size := s.config.ShmSize
	if size == 0 {
		size = defaultShmSize
	}
	dir := filepath.Join(s.dir, shim.ShmDir)
	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	options := "mode=1777,size=" + strconv.FormatInt(size, 10)
	if err := unix.Mount("shm", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		return fmt.Errorf("mount the pod's shared memory: %w", err)
	}
	return nil
}

// startPause starts the first process of the pod's shared PID namespace. It dies with podshim, and everything in the namespace with
// it. It runs from a sealed copy of the binary, since containers of the namespace can see it in /proc.
func (s *Server) startPause() (err error) {
	exe, err := exeseal.CloneSelfExe(s.dir)
	if err != nil {
		return err
	}
	defer exe.Close()
	ready, child, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	defer child.Close()
	cmd := exec.Command("/proc/self/fd/3", PauseArg)
	cmd.Args[0] = "pause"
	cmd.Env = []string{}
	cmd.ExtraFiles = []*os.File{exe, child}
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	err = s.reaper.start(func() (int, error) {
		var err error
		s.forker.do(func() { err = cmd.Start() })
		if err != nil {
			return 0, err
		}
		return cmd.Process.Pid, nil
	}, func(unix.WaitStatus) {
		s.log.Error("the first process of the shared PID namespace has ended: the pod's containers are dead")
	})
	if err != nil {
		return fmt.Errorf("start the shared PID namespace: %w", err)
	}
	// No container may see it before it has given up what it can do.
	_ = child.Close()
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("start the shared PID namespace: its first process ended: %w", err)
	}
	s.pidNS = "/proc/" + strconv.Itoa(cmd.Process.Pid) + "/ns/pid"
	return nil
}

// sharesPIDs says whether containers see processes other than their own.
func (s *Server) sharesPIDs() bool { return s.config.HostPID || s.config.ShareProcessNamespace }

// complete fills in what the pod decides about a container.
func (s *Server) complete(c *shim.ContainerConfig) error {
	spec := c.Spec
	if spec.Linux == nil {
		spec.Linux = &specs.Linux{}
	}
	spec.Hostname, spec.Domainname = "", ""
	spec.Linux.CgroupsPath = s.cgroupPath(c.ID)
	pidNS, err := s.pidNamespace(c)
	if err != nil {
		return err
	}
	spec.Linux.Namespaces = s.namespaces(pidNS)
	spec.Linux.Sysctl = nil
	spec.Linux.UIDMappings, spec.Linux.GIDMappings = nil, nil // those of the namespace that it joins
	spec.Process.Terminal = c.TTY
	// Always set: otherwise the container had the kubelet's, which the kernel must not kill.
	score := 0
	if adj := spec.Process.OOMScoreAdj; adj != nil {
		score = *adj
	}
	score = lowestOOMScore(score)
	spec.Process.OOMScoreAdj = &score
	s.limitAsPod(spec.Linux)
	for i := range spec.Mounts {
		m := &spec.Mounts[i]
		if filepath.Clean(m.Destination) == "/dev/shm" && m.Source == shim.ShmDir {
			m.Source = filepath.Join(s.dir, shim.ShmDir)
			if s.config.HostIPC {
				m.Source = "/dev/shm"
			}
		}
	}
	return nil
}

// pidNamespace is the path of the PID namespace that a container joins; empty for one of its own.
func (s *Server) pidNamespace(c *shim.ContainerConfig) (string, error) {
	if c.TargetID == "" || s.sharesPIDs() {
		return s.pidNS, nil
	}
	target, err := s.find(c.TargetID)
	if err != nil {
		return "", err
	}
	st := target.snapshot()
	if st.Phase != shim.Running {
		return "", fmt.Errorf("container %s: %w", c.TargetID, shim.ErrNotRunning)
	}
	return "/proc/" + strconv.Itoa(st.PID) + "/ns/pid", nil
}

// namespaces are those of a container: the pod's by path, its own mounts, and its own processes unless pidNS says otherwise.
func (s *Server) namespaces(pidNS string) []specs.LinuxNamespace {
	self := "/proc/" + strconv.Itoa(os.Getpid()) + "/ns/"
	ns := []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.CgroupNamespace}}
	if !s.config.HostNetwork {
		ns = append(ns, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: self + "net"}, specs.LinuxNamespace{Type: specs.UTSNamespace, Path: self + "uts"})
	}
	if !s.config.HostIPC {
		ns = append(ns, specs.LinuxNamespace{Type: specs.IPCNamespace, Path: self + "ipc"})
	}
	if s.config.UserNamespace != nil {
		ns = append(ns, specs.LinuxNamespace{Type: specs.UserNamespace, Path: "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(shim.UserNSDescriptor)})
	}
	if !s.config.HostPID {
		ns = append(ns, specs.LinuxNamespace{Type: specs.PIDNamespace, Path: pidNS})
	}
	return ns
}

// loopbackUp sets the flag with two ioctls: a netlink library is not worth its memory here.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return err
	}
	req.SetUint16(req.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}
