package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"bareboat.dev/kubelet/cgroup"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Pod is a running podshim. It holds no connection and no descriptor: it may be dropped without being closed.
type Pod struct {
	config  PodConfig
	process Process
}

// Config returns what the pod was launched with.
func (p *Pod) Config() PodConfig { return p.config }

// PID returns podshim's process ID.
func (p *Pod) PID() int { return p.process.PID }

// NetNSPath names the pod's network namespace, as setns(2) and CNI want it; with HostNetwork that is the host's. It is valid as
// long as podshim lives.
func (p *Pod) NetNSPath() string {
	return "/proc/" + strconv.Itoa(p.process.PID) + "/ns/net"
}

// Create makes a container whose process waits for [Pod.Start]. Everything that can be found wrong with the container's
// configuration or image is found here, as [ErrStart]; then nothing is left behind.
func (p *Pod) Create(ctx context.Context, c ContainerConfig) error {
	if err := c.Validate(); err != nil {
		return err
	}
	_, err := p.call(ctx, Request{Op: OpCreate, ID: c.ID, Container: &c})
	return err
}

// Start lets a created container run its program and returns its process ID on the host.
func (p *Pod) Start(ctx context.Context, id string) (int, error) {
	reply, err := p.call(ctx, Request{Op: OpStart, ID: id})
	if err != nil {
		return 0, err
	}
	return reply.PID, nil
}

// Signal sends sig to the container's first process. [ErrNotRunning] if it has exited.
func (p *Pod) Signal(ctx context.Context, id string, sig syscall.Signal) error {
	_, err := p.call(ctx, Request{Op: OpSignal, ID: id, Signal: sig})
	return err
}

// Kill kills every process of the container (SIGKILL, frozen meanwhile so that none escapes by forking). It is not an error if none
// is left. The exit is announced as any other.
func (p *Pod) Kill(ctx context.Context, id string) error {
	_, err := p.call(ctx, Request{Op: OpSignal, ID: id, Signal: syscall.SIGKILL, All: true})
	return err
}

// Delete forgets an exited or only created container, killing what is left of it, and removes its cgroup. Its log stays.
// [ErrNotFound] if there is none of that ID; an error that says so if it is running.
func (p *Pod) Delete(ctx context.Context, id string) error {
	_, err := p.call(ctx, Request{Op: OpDelete, ID: id})
	return err
}

// UpdateResources changes the limits of a running container; what is zero or nil in r stays as it is.
func (p *Pod) UpdateResources(ctx context.Context, id string, r specs.LinuxResources) error {
	_, err := p.call(ctx, Request{Op: OpUpdate, ID: id, Resources: &r})
	return err
}

// ReopenLog makes podshim open the container's LogPath anew, for rotation: rename the file first, then call. Every line is in exactly
// one of the two files, and each file holds whole lines.
func (p *Pod) ReopenLog(ctx context.Context, id string) error {
	_, err := p.call(ctx, Request{Op: OpReopen, ID: id})
	return err
}

// Resize sets the size of the container's terminal. An error that is [ErrInvalid] if it has none.
func (p *Pod) Resize(ctx context.Context, id string, size Size) error {
	_, err := p.call(ctx, Request{Op: OpResize, ID: id, Size: &size})
	return err
}

// State returns all containers of the pod.
func (p *Pod) State(ctx context.Context) (State, error) {
	reply, err := p.call(ctx, Request{Op: OpState})
	if err != nil {
		return State{}, err
	}
	if reply.State == nil {
		return State{}, nil
	}
	return *reply.State, nil
}

// Stats reads the resource usage of a container from its cgroup, without asking podshim.
func (p *Pod) Stats(_ context.Context, id string) (cgroup.Stats, error) {
	h, err := cgroup.Detect()
	if err != nil {
		return cgroup.Stats{}, err
	}
	stats, err := h.Stats(filepath.Join(p.config.CgroupParent, id))
	if errors.Is(err, cgroup.ErrNotFound) {
		return stats, fmt.Errorf("container %s: %w", id, ErrNotFound)
	}
	return stats, err
}

// Events yields an event for each container that has exited, first those that had before the call (and are not deleted), then those
// that do. It ends with an error: ctx's, or [ErrShimDead].
func (p *Pod) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		conn, err := p.open(ctx, Request{Op: OpEvents})
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { _ = conn.UnixConn.Close() })
		defer stop()
		for {
			reply, err := receive(ctx, conn)
			if err != nil {
				yield(Event{}, err)
				return
			}
			if reply.Event != nil && !yield(*reply.Event, nil) {
				return
			}
		}
	}
}

// Dial connects from inside the pod's network namespace, as [net.Dialer.DialContext] would: for port-forward, network "tcp" and
// address "127.0.0.1:<port>". The connection itself does not pass through podshim. [ErrRefused] if nobody listens.
func (p *Pod) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := p.open(ctx, Request{Op: OpDial, Network: network, Address: address})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := receiveUntil(ctx, conn); err != nil {
		return nil, err
	}
	files := conn.Files()
	if len(files) != 1 {
		return nil, fmt.Errorf("podshim passed %d sockets for one", len(files))
	}
	defer files[0].Close()
	return net.FileConn(files[0])
}

// Shutdown kills and deletes all containers, ends podshim and removes the state directory. Exits that nobody has read are lost with
// it. The pod's cgroup is left to its maker. It is not an error if podshim is gone already: then it does what [Reap] does.
func (p *Pod) Shutdown(ctx context.Context) error {
	_, err := p.call(ctx, Request{Op: OpShutdown})
	if err != nil && !errors.Is(err, ErrShimDead) {
		return err
	}
	if err := awaitExit(ctx, p.process); err != nil {
		return fmt.Errorf("podshim of pod %s does not end: %w", p.config.UID, err)
	}
	return Reap(ctx, p.config.StateDir)
}

// call makes a request that has one reply.
func (p *Pod) call(ctx context.Context, r Request) (Reply, error) {
	conn, err := p.open(ctx, r)
	if err != nil {
		return Reply{}, err
	}
	defer conn.Close()
	return receiveUntil(ctx, conn)
}

// open connects and sends the request.
func (p *Pod) open(ctx context.Context, r Request, files ...*os.File) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	conn, err := connect(ctx, p.config.StateDir)
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", p.config.UID, err)
	}
	if err := conn.Send(r, files...); err != nil {
		conn.Close()
		if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
			return nil, fmt.Errorf("pod %s: %w", p.config.UID, ErrShimDead)
		}
		return nil, fmt.Errorf("ask podshim to %s: %w", r.Op, err)
	}
	return conn, nil
}

// receiveUntil is receive that gives up when ctx ends.
func receiveUntil(ctx context.Context, conn *Conn) (Reply, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.UnixConn.Close() })
	defer stop()
	return receive(ctx, conn)
}

// receive reads one reply and tells the ways of failing apart.
func receive(ctx context.Context, conn *Conn) (Reply, error) {
	var reply Reply
	if err := conn.Receive(&reply); err != nil {
		if ctx.Err() != nil {
			return Reply{}, ctx.Err()
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
			return Reply{}, ErrShimDead
		}
		return Reply{}, fmt.Errorf("read from podshim: %w", err)
	}
	if reply.Error != nil {
		return Reply{}, reply.Error
	}
	return reply, nil
}

// connect dials the socket in dir through a descriptor of the directory, since socket addresses are limited to 107 bytes.
func connect(ctx context.Context, dir string) (*Conn, error) {
	d, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil, fmt.Errorf("%w: %w", ErrShimDead, ErrNotFound)
		}
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(d)
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "unix", "/proc/self/fd/"+strconv.Itoa(d)+"/"+SocketFile)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) {
			return nil, ErrShimDead
		}
		return nil, err
	}
	return NewConn(c.(*net.UnixConn)), nil
}

// readJSON reads a small file of the state directory.
func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
