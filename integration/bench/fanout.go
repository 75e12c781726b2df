package bench

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// FanOutCommand is the command's argument that makes it the yardstick of watches, a process of its own as the API server is one.
const FanOutCommand = "bare-fan-out"

const (
	bareService = "bench.FanOut"
	bareMethod  = "/" + bareService + "/Watch"
)

// bare is a gRPC server whose streams all get the same bytes, at once and in the same order, with nothing else done: what grpc-go,
// TLS and the kernel cost for what the API server's watches deliver.
type bare struct {
	mu     sync.Mutex
	wake   chan struct{}
	events [][]byte
}

// raw passes bytes through.
type raw struct{}

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}
func (raw) Unmarshal(data mem.BufferSlice, v any) error { return nil }
func (raw) Name() string                                { return "proto" }

var _ encoding.CodecV2 = raw{}

func (b *bare) watch(_ any, stream grpc.ServerStream) error {
	bookmark := protowire.AppendTag(nil, fieldEvents, protowire.BytesType)
	bookmark = protowire.AppendBytes(bookmark, []byte{fieldType << 3, byte(apiv1.Event_TYPE_BOOKMARK)})
	if err := stream.SendMsg(bookmark); err != nil {
		return err
	}
	for next := 0; ; {
		b.mu.Lock()
		events, wake := b.events[next:], b.wake
		b.mu.Unlock()
		for _, e := range events {
			if err := stream.SendMsg(e); err != nil {
				return err
			}
		}
		next += len(events)
		if len(events) > 0 {
			continue
		}
		select {
		case <-wake:
		case <-stream.Context().Done():
			return nil
		}
	}
}

func (b *bare) publish(event []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, event)
	close(b.wake)
	b.wake = make(chan struct{})
}

// FanOut runs the yardstick: arguments are a certificate, its key and the size of an event. It prints its address, and publishes an
// event for each byte that it reads, answering with the same byte.
func FanOut(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 3 {
		return fmt.Errorf("%s: certificate, key and size are needed", FanOutCommand)
	}
	var size int
	if _, err := fmt.Sscan(args[2], &size); err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(args[0], args[1])
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b := &bare{wake: make(chan struct{})}
	s := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&pair)), grpc.ForceServerCodecV2(raw{}), grpc.MaxConcurrentStreams(watchers))
	s.RegisterService(&grpc.ServiceDesc{ServiceName: bareService, HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{
		{StreamName: "Watch", ServerStreams: true, Handler: b.watch},
	}}, b)
	go s.Serve(l)
	fmt.Fprintln(out, l.Addr())
	one := make([]byte, 1)
	for n := int64(1); ; n++ {
		if _, err := in.Read(one); err != nil {
			s.Stop()
			return nil
		}
		b.publish(bareEvent(size, n))
		if _, err := out.Write(one); err != nil {
			return err
		}
	}
}

// bareEvent is a message of the wanted size that reads as a WatchResponse with one event.
func bareEvent(size int, revision int64) []byte {
	m := protowire.AppendTag(nil, fieldEvents, protowire.BytesType)
	m = protowire.AppendBytes(m, append([]byte{fieldType << 3, byte(apiv1.Event_TYPE_ADDED)}, make([]byte, max(size-16, 0))...))
	return protowire.AppendVarint(protowire.AppendTag(m, fieldRevision, protowire.VarintType), uint64(revision))
}

// bareFanOut measures the yardstick with events of a size, as the API server's watches are measured.
func bareFanOut(e *Env, s *server, size int) ([]time.Duration, time.Duration, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, 0, err
	}
	cmd := exec.Command(self, FanOutCommand, s.certFile, s.keyFile, fmt.Sprint(size))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, 0, err
	}
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		in.Close()
		cmd.Wait()
	}()
	out := bufio.NewReader(stdout)
	address, err := out.ReadString('\n')
	if err != nil {
		return nil, 0, err
	}
	address = address[:len(address)-1]
	f := newFanOut()
	config := s.tls(e)
	config.NextProtos = []string{"h2"}
	if err := f.open(func() *generator { return dialGenerator(e, address, config) }, grpcCall(address, bareMethod, func(b []byte, _, _ int) []byte { return b })); err != nil {
		return nil, 0, err
	}
	for f.ready.Load() < watchers {
		time.Sleep(10 * time.Millisecond)
	}
	used := cpuTime([]int{cmd.Process.Pid})
	var mu sync.Mutex
	published := int64(0)
	waits, err := f.write(func(int) (int64, error) {
		mu.Lock()
		defer mu.Unlock()
		published++
		one := []byte{1}
		if _, err := in.Write(one); err != nil {
			return 0, err
		}
		_, err := io.ReadFull(out, one)
		return published, err
	})
	return waits, cpuTime([]int{cmd.Process.Pid}) - used, err
}
