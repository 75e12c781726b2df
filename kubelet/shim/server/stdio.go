package server

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// readSize is how much output is read, formatted and written at once, of a container that writes a little now and then.
	readSize = 8 << 10
	// bulkSize is how much of one that writes faster than it is read, and pipeSize how much it may write ahead of us: the more, the
	// seldomer it and podshim wait for each other. A pipe takes memory only for what is in it, and the buffer goes when the flood has passed.
	bulkSize = 128 << 10
	pipeSize = 256 << 10
	// attachPatience is how long an attached client may leave its pipe full before it is cut off, so that it cannot stop the container.
	attachPatience = 10 * time.Second
	// drainLimit is how long output is awaited after the container has ended. Everything in it is dead then; only a process
	// outside that was handed the pipe could keep it open.
	drainLimit = 2 * time.Second
)

// stdio is a container's standard streams, as podshim holds them.
type stdio struct {
	log      *logFile
	terminal *os.File // the controlling side, if the container has a terminal
	stdout   fanout
	stderr   fanout

	inMu    sync.Mutex
	in      *os.File // where attached input goes; nil if there is none, or no longer
	inOnce  bool
	readers sync.WaitGroup
	sources []*os.File // what the readers read
}

// fanout is the set of attached clients that get one stream.
type fanout struct {
	mu      sync.Mutex
	clients []*os.File
}

func (f *fanout) add(client *os.File) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clients = append(f.clients, client)
}

// remove takes a client out and closes it.
func (f *fanout) remove(client *os.File) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, c := range f.clients {
		if c == client {
			f.clients = append(f.clients[:i:i], f.clients[i+1:]...)
			break
		}
	}
	_ = client.Close()
}

// write gives data to all clients; one that fails or does not keep up gets nothing more.
func (f *fanout) write(data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := f.clients[:0]
	for _, c := range f.clients {
		_ = c.SetWriteDeadline(time.Now().Add(attachPatience))
		if _, err := c.Write(data); err != nil {
			_ = c.Close()
			continue
		}
		kept = append(kept, c)
	}
	clear(f.clients[len(kept):])
	f.clients = kept
}

func (f *fanout) closeAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.clients {
		_ = c.Close()
	}
	f.clients = nil
}

// buffers are for reading and for formatting; taken only while there is something to read.
type buffers struct{ in, out []byte }

// bufferPool is per server, so that nothing is shared at package level.
type bufferPool struct {
	pool sync.Pool
	// dropped is called when much memory is no longer needed.
	dropped func()
}

func (p *bufferPool) get() *buffers {
	if b, ok := p.pool.Get().(*buffers); ok {
		return b
	}
	return &buffers{in: make([]byte, readSize)}
}

func (p *bufferPool) put(b *buffers) {
	b.out = b.out[:0]
	p.pool.Put(b)
}

// follow starts reading one stream into the log and to attached clients.
func (s *stdio) follow(pool *bufferPool, source *os.File, name string, clients *fanout) {
	s.sources = append(s.sources, source)
	f := &follower{pool: pool, source: source, format: lineFormatter{stream: name}}
	s.readers.Go(func() {
		defer clients.closeAll()
		for {
			n, err := f.read()
			if n > 0 {
				b := f.buffers
				b.out = f.format.format(b.out[:0], time.Now(), b.in[:n])
				s.log.append(b.out)
				clients.write(b.in[:n])
			}
			f.settle(n)
			if err != nil {
				s.log.append(f.format.flush(nil, time.Now()))
				return
			}
		}
	})
}

// follower reads one stream. While nothing comes it has no buffer, while a little comes one of the pool's, and in a flood its own.
type follower struct {
	pool    *bufferPool
	source  *os.File
	format  lineFormatter
	buffers *buffers
}

// read waits for output and reads some of it into f.buffers.
func (f *follower) read() (int, error) {
	if f.flooded() {
		return readWhenReady(f.source, func() []byte { return f.buffers.in }, func() {})
	}
	return readWhenReady(f.source,
		func() []byte { f.buffers = f.pool.get(); return f.buffers.in },
		func() { f.pool.put(f.buffers); f.buffers = nil })
}

func (f *follower) flooded() bool { return f.buffers != nil }

// settle chooses the buffer for the next read by what the last one gave: a full one says that more is waiting.
func (f *follower) settle(n int) {
	b := f.buffers
	switch {
	case b == nil:
	case len(b.in) == bulkSize:
		if n < readSize {
			f.buffers = nil
			f.pool.dropped()
		}
	case n == len(b.in):
		f.pool.put(b)
		f.buffers = &buffers{in: make([]byte, bulkSize)}
	default:
		f.pool.put(b)
		f.buffers = nil
	}
}

// readWhenReady reads once into the buffer that take gives; release is called for a buffer that was taken for nothing.
func readWhenReady(f *os.File, take func() []byte, release func()) (n int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var readErr error
	err = raw.Read(func(fd uintptr) bool {
		buf := take()
		for {
			n, readErr = unix.Read(int(fd), buf)
			if !errors.Is(readErr, unix.EINTR) {
				break
			}
		}
		if errors.Is(readErr, unix.EAGAIN) {
			release()
			return false
		}
		return true
	})
	switch {
	case err != nil:
		return 0, err
	case readErr != nil: // EIO is how a terminal says that its other side is closed
		return 0, readErr
	case n <= 0:
		return 0, io.EOF
	}
	return n, nil
}

// drain waits until all output has been read, or the limit has passed, and closes everything.
func (s *stdio) drain() {
	limit := time.Now().Add(drainLimit)
	for _, f := range s.sources {
		_ = f.SetReadDeadline(limit)
	}
	s.readers.Wait()
	s.close()
}

// close gives up all descriptors.
func (s *stdio) close() {
	for _, f := range s.sources {
		_ = f.Close()
	}
	s.stdout.closeAll()
	s.stderr.closeAll()
	s.closeInput()
	_ = s.log.close()
}

// attachInput copies a client's input to the container until either ends, and says whether it was the client's alone.
func (s *stdio) attachInput(client *os.File) (alone bool) {
	s.inMu.Lock()
	in := s.in
	s.inMu.Unlock()
	if in == nil {
		return false
	}
	if _, err := io.Copy(in, client); err != nil {
		return false
	}
	if s.inOnce {
		s.closeInput()
	}
	return !s.inOnce || in == s.terminal
}

func (s *stdio) closeInput() {
	s.inMu.Lock()
	defer s.inMu.Unlock()
	if s.in != nil && s.in != s.terminal {
		_ = s.in.Close()
	}
	s.in = nil
}

// pollable wraps a descriptor such that reads and writes wait in the poller and can have deadlines.
func pollable(fd int, name string) (*os.File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// pipe makes a pipe of which we keep one pollable end; the other is plain and for a container.
func pipe(keepRead bool) (keep, give *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	if !keepRead {
		fds[0], fds[1] = fds[1], fds[0]
	}
	// Without the right to it, or with too many pipes on the host, it stays at the kernel's 64 KiB.
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize)
	keep, err = pollable(fds[0], "pipe")
	if err != nil {
		_ = unix.Close(fds[0])
		_ = unix.Close(fds[1])
		return nil, nil, err
	}
	return keep, os.NewFile(uintptr(fds[1]), "pipe"), nil
}
