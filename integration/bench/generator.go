package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// window is what the server may send before it is given more, on the connection and on each stream; firstWindow what it may send
	// without being told (RFC 9113, section 6.9.2).
	window, firstWindow = 1 << 30, 1<<16 - 1
	// frameBytes is the largest frame that is taken and, as every server accepts it, sent (RFC 9113, section 4.2).
	frameBytes = 16 << 10
	// ioBytes is the size of the buffers on either side: a few dozen requests or answers for each system call.
	ioBytes = 128 << 10
)

// generator is a load generator: an HTTP/2 client on one connection and one goroutine that does as little as it can for each
// call, so that on machines where load and server share the CPUs it is the server that is measured. Bodies come encoded,
// headers are encoded once, answers are checked by their status and dropped. What the server gets is what any client would
// send that has so many calls under way on one connection.
type generator struct {
	conn   net.Conn
	out    *bufio.Writer
	in     *bufio.Reader
	framer *http2.Framer
	// table is the state of the header compression towards the server, head its scratch space.
	table *hpack.Encoder
	head  bytes.Buffer
	// status is the headers, or trailers, that were read last; ok is what those of a successful answer say.
	decoder    *hpack.Decoder
	status, ok map[string]string
	next       uint32
	// credit is what may be sent on the connection, taken what has been received since the server was last given more.
	credit, taken int64
}

// dialGenerator connects, and lets the server send as much as it likes. A nil config means no TLS.
func dialGenerator(e *Env, address string, config *tls.Config) *generator {
	return dialWindow(e, address, config, window)
}

// dialWindow connects, and lets the server send so much on each stream, and on the connection if it is more than firstWindow.
func dialWindow(e *Env, address string, config *tls.Config, size uint32) *generator {
	conn, err := net.Dial("tcp", address)
	if err == nil && config != nil {
		secured := tls.Client(conn, config)
		err = secured.HandshakeContext(context.Background())
		conn = secured
	}
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { conn.Close() })
	g := &generator{conn: conn, out: bufio.NewWriterSize(conn, ioBytes), in: bufio.NewReaderSize(conn, ioBytes), next: 1, credit: firstWindow, status: map[string]string{}}
	g.framer = http2.NewFramer(g.out, g.in)
	g.framer.SetReuseFrames()
	g.table = hpack.NewEncoder(&g.head)
	g.decoder = hpack.NewDecoder(4096, func(f hpack.HeaderField) { g.status[f.Name] = f.Value })
	g.out.WriteString(http2.ClientPreface)
	err = g.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: size}, http2.Setting{ID: http2.SettingEnablePush})
	if err == nil && size > firstWindow {
		err = g.framer.WriteWindowUpdate(0, size-firstWindow)
	}
	if err != nil {
		e.Fatal(err)
	}
	return g
}

// call is what the calls of a run have in common.
type call struct {
	// headers in the order in which they are sent, pseudo-headers first.
	headers []hpack.HeaderField
	// ok are the headers, or trailers, that a successful answer has.
	ok map[string]string
	// body appends the body of a caller's nth call.
	body func(b []byte, caller, n int) []byte
}

// grpcCall is a call of a gRPC method; message appends the request.
func grpcCall(authority, method string, message func(b []byte, caller, n int) []byte) call {
	return call{
		headers: []hpack.HeaderField{
			{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "https"}, {Name: ":path", Value: method}, {Name: ":authority", Value: authority},
			{Name: "content-type", Value: "application/grpc"}, {Name: "user-agent", Value: "bench"}, {Name: "te", Value: "trailers"},
		},
		ok: map[string]string{"grpc-status": "0"},
		body: func(b []byte, caller, n int) []byte {
			start := len(b)
			b = message(append(b, 0, 0, 0, 0, 0), caller, n)
			binary.BigEndian.PutUint32(b[start+1:], uint32(len(b)-start-5))
			return b
		},
	}
}

// run has callers call for d, each as soon as it is answered, and returns how many calls succeeded.
func (g *generator) run(c call, callers int, d time.Duration) (int, error) {
	deadline := time.Now().Add(d)
	g.ok = c.ok
	active := map[uint32]int{}
	calls := make([]int, callers)
	var body []byte
	var waiting []int
	begin := func(caller int) error {
		body = c.body(body[:0], caller, calls[caller])
		if int64(len(body)) > g.credit {
			waiting = append(waiting, caller)
			return nil
		}
		calls[caller]++
		active[g.next] = caller
		return g.send(c.headers, body)
	}
	for caller := range callers {
		if err := begin(caller); err != nil {
			return 0, err
		}
	}
	done := 0
	for len(active) > 0 || len(waiting) > 0 {
		stream, err := g.receive(nil)
		if err != nil {
			return done, err
		}
		if stream == 0 {
			for again := waiting; len(again) > 0; again = again[1:] {
				waiting = nil
				if err := begin(again[0]); err != nil {
					return done, err
				}
			}
			continue
		}
		caller := active[stream]
		delete(active, stream)
		done++
		if time.Now().Before(deadline) {
			if err := begin(caller); err != nil {
				return done, err
			}
		}
	}
	return done, nil
}

// send writes one request.
func (g *generator) send(headers []hpack.HeaderField, body []byte) error {
	g.head.Reset()
	for _, h := range headers {
		if err := g.table.WriteField(h); err != nil {
			return err
		}
	}
	id := g.next
	g.next += 2
	g.credit -= int64(len(body))
	err := g.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: g.head.Bytes(), EndHeaders: true, EndStream: len(body) == 0})
	for len(body) > 0 && err == nil {
		n := min(len(body), frameBytes)
		err = g.framer.WriteData(id, n == len(body), body[:n])
		body = body[n:]
	}
	return err
}

// receive handles one frame. It returns the stream that the frame ends, or 0, and hands data to take, if there is one.
func (g *generator) receive(take func(stream uint32, data []byte)) (ended uint32, err error) {
	if g.in.Buffered() == 0 {
		if err := g.out.Flush(); err != nil {
			return 0, err
		}
	}
	f, err := g.framer.ReadFrame()
	if err != nil {
		return 0, err
	}
	switch f := f.(type) {
	case *http2.HeadersFrame:
		if _, err := g.decoder.Write(f.HeaderBlockFragment()); err != nil {
			return 0, err
		}
		if !f.HeadersEnded() {
			return 0, fmt.Errorf("headers in several frames")
		}
		if f.StreamEnded() {
			ended = f.StreamID
		}
		err = g.check()
	case *http2.DataFrame:
		if take != nil {
			take(f.StreamID, f.Data())
		}
		if f.StreamEnded() {
			ended = f.StreamID
		}
		if g.taken += int64(f.Length); g.taken > window/2 {
			err = g.framer.WriteWindowUpdate(0, uint32(g.taken))
			g.taken = 0
		}
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			g.credit += int64(f.Increment)
		}
	case *http2.SettingsFrame:
		if !f.IsAck() {
			err = g.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			err = g.framer.WritePing(true, f.Data)
		}
	case *http2.RSTStreamFrame:
		err = fmt.Errorf("the server reset a call: %v", f.ErrCode)
	case *http2.GoAwayFrame:
		err = fmt.Errorf("the server closed the connection: %v %s", f.ErrCode, f.DebugData())
	}
	return ended, err
}

// check holds the headers, or trailers, that were just read to what is wanted of them.
func (g *generator) check() error {
	defer clear(g.status)
	for name, want := range g.ok {
		if got, ok := g.status[name]; ok && got != want {
			return fmt.Errorf("answered with %v", g.status)
		}
	}
	return nil
}
