package shim

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// MaxFrame bounds one JSON message: a container's spec with the largest environment that Linux would exec (argv + envp ≤ 6 MiB
// with default limits, each byte at most doubled by JSON escapes in practice) fits.
const MaxFrame = 16 << 20

// maxFrameFiles bounds the descriptors passed with one frame: stdin, stdout and stderr.
const maxFrameFiles = 3

// Conn carries frames over a unix stream socket: a 4-byte big-endian length, then that many bytes of JSON. Descriptors travel
// with the first byte of the frame that they belong to. A Conn is used by one reader and one writer at a time.
type Conn struct {
	*net.UnixConn
	files []*os.File // received, not yet taken
}

// NewConn wraps a connected socket.
func NewConn(c *net.UnixConn) *Conn { return &Conn{UnixConn: c} }

// Send writes v as one frame, with files attached. The caller keeps its files and closes them when it likes.
func (c *Conn) Send(v any, files ...*os.File) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(body) > MaxFrame || len(files) > maxFrameFiles {
		return invalidf("frame of %d bytes and %d files", len(body), len(files))
	}
	frame := make([]byte, 4+len(body))
	binary.BigEndian.PutUint32(frame, uint32(len(body)))
	copy(frame[4:], body)
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			raw, err := f.SyscallConn()
			if err != nil {
				return err
			}
			// Not f.Fd(): that would put the descriptor into blocking mode.
			if err := raw.Control(func(fd uintptr) { fds[i] = int(fd) }); err != nil {
				return err
			}
		}
		oob = unix.UnixRights(fds...)
	}
	n, _, err := c.WriteMsgUnix(frame, oob, nil)
	if err != nil {
		return err
	}
	if n < len(frame) {
		_, err = c.Write(frame[n:])
	}
	return err
}

// Receive reads one frame into v. Descriptors that came with it are kept for Files.
func (c *Conn) Receive(v any) error {
	var head [4]byte
	if err := c.readHead(head[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > MaxFrame {
		return invalidf("frame of %d bytes", size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c, body); err != nil {
		return noEOF(err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return invalidf("frame: %v", err)
	}
	return nil
}

// readHead reads the length, with the descriptors that travel on its first byte.
func (c *Conn) readHead(head []byte) error {
	oob := make([]byte, unix.CmsgSpace(4*maxFrameFiles))
	n, oobn, flags, _, err := c.ReadMsgUnix(head, oob)
	if err != nil {
		return err
	}
	if oobn > 0 {
		if err := c.keepFiles(oob[:oobn]); err != nil {
			return err
		}
	}
	if flags&unix.MSG_CTRUNC != 0 {
		return invalidf("frame with too many files")
	}
	if n == 0 {
		return io.EOF
	}
	_, err = io.ReadFull(c, head[n:])
	return noEOF(err)
}

func (c *Conn) keepFiles(oob []byte) error {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return err
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			_ = unix.SetNonblock(fd, true) // so that os.File uses the poller and Close interrupts Read
			c.files = append(c.files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return nil
}

// Files hands over the descriptors received since the last call; the caller closes them.
func (c *Conn) Files() []*os.File {
	files := c.files
	c.files = nil
	return files
}

// Close closes the socket and every descriptor that nobody took.
func (c *Conn) Close() error {
	for _, f := range c.Files() {
		_ = f.Close()
	}
	return c.UnixConn.Close()
}

// noEOF turns an end inside a frame into what it is: a cut.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("frame cut short: %w", io.ErrUnexpectedEOF)
	}
	return err
}
