package server

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/utils"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"bareboat.dev/kubelet/shim"
)

// newProcess turns a process as the OCI specification has it into libcontainer's.
func newProcess(p *specs.Process) (*libcontainer.Process, error) {
	lp := &libcontainer.Process{
		Args:            p.Args,
		Env:             p.Env,
		UID:             int(p.User.UID),
		GID:             int(p.User.GID),
		Cwd:             p.Cwd,
		Label:           p.SelinuxLabel,
		NoNewPrivileges: &p.NoNewPrivileges,
		AppArmorProfile: p.ApparmorProfile,
		Scheduler:       p.Scheduler,
		IOPriority:      p.IOPriority,
	}
	for _, g := range p.User.AdditionalGids {
		lp.AdditionalGroups = append(lp.AdditionalGroups, int(g))
	}
	if p.ConsoleSize != nil {
		lp.ConsoleWidth, lp.ConsoleHeight = uint16(p.ConsoleSize.Width), uint16(p.ConsoleSize.Height)
	}
	if c := p.Capabilities; c != nil {
		lp.Capabilities = &configs.Capabilities{
			Bounding: c.Bounding, Effective: c.Effective, Inheritable: c.Inheritable, Permitted: c.Permitted, Ambient: c.Ambient,
		}
	}
	var err error
	if lp.Rlimits, err = rlimits(p.Rlimits); err != nil {
		return nil, err
	}
	lp.CPUAffinity, err = configs.ConvertCPUAffinity(p.ExecCPUAffinity)
	return lp, err
}

// rlimits converts the limits' names (RLIMIT_NOFILE…) to the kernel's numbers.
func rlimits(in []specs.POSIXRlimit) ([]configs.Rlimit, error) {
	numbers := map[string]int{
		"RLIMIT_CPU": unix.RLIMIT_CPU, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_STACK": unix.RLIMIT_STACK,
		"RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_RSS": unix.RLIMIT_RSS, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE,
		"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
		"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE,
		"RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
	}
	var out []configs.Rlimit
	for _, l := range in {
		number, ok := numbers[l.Type]
		if !ok {
			return nil, fmt.Errorf("%w: rlimit %q", shim.ErrInvalid, l.Type)
		}
		out = append(out, configs.Rlimit{Type: number, Soft: l.Soft, Hard: l.Hard})
	}
	return out, nil
}

// execProcess is the container's own process, changed as c says.
func execProcess(base *specs.Process, c *shim.ExecConfig) *specs.Process {
	p := *base
	p.Args = c.Args
	p.Env = mergeEnv(base.Env, c.Env)
	p.Terminal = c.TTY
	p.ConsoleSize = nil
	if c.Size != nil {
		p.ConsoleSize = &specs.Box{Width: uint(c.Size.Width), Height: uint(c.Size.Height)}
	}
	if c.Cwd != "" {
		p.Cwd = c.Cwd
	}
	if c.User != nil {
		p.User = *c.User
	}
	return &p
}

// mergeEnv adds variables; a later one of the same name replaces the earlier in place.
func mergeEnv(base, more []string) []string {
	env := append([]string(nil), base...)
	at := map[string]int{}
	for i, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		at[name] = i
	}
	for _, kv := range more {
		name, _, _ := strings.Cut(kv, "=")
		if i, ok := at[name]; ok {
			env[i] = kv
			continue
		}
		at[name] = len(env)
		env = append(env, kv)
	}
	return env
}

// console receives the controlling side of a terminal that libcontainer makes inside the container.
type console struct{ ours, theirs *os.File }

func newConsole(p *libcontainer.Process) (*console, error) {
	ours, theirs, err := utils.NewSockPair("console")
	if err != nil {
		return nil, err
	}
	p.ConsoleSocket = theirs
	return &console{ours: ours, theirs: theirs}, nil
}

// receive returns the terminal, once the process has been started.
func (c *console) receive() (*os.File, error) {
	f, err := utils.RecvFile(c.ours)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return pollable(fd, "terminal")
}

func (c *console) close() {
	_ = c.theirs.Close()
	_ = c.ours.Close()
}

// startError says that a process could not be started because of what it is.
func startError(err error) error {
	if errors.Is(err, shim.ErrInvalid) {
		return err
	}
	return fmt.Errorf("%w: %s", shim.ErrStart, err.Error())
}
