package rest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/net/websocket"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"bareboat.dev/apiserver/pipeline"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// maxForwards bounds the connections that one port-forward carries at once: a browser opens six to a host, a load test some
// dozens. At 256 KiB each that is 32 MiB. A WebSocket has room for no more: its channels are numbered by a byte, and each has two.
const maxForwards = 128

// ports are those that a port-forward names in its URL; most clients name them later, in the stream.
func ports(r *http.Request) (named []int32, err error) {
	values := r.URL.Query()["ports"]
	if err := metav1.Convert_Slice_string_To_Slice_int32(&values, &named, nil); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return named, nil
}

// portForward carries connections into a pod: over SPDY, over SPDY in a WebSocket (KEP-4006, what kubectl does), or over one
// WebSocket for the ports that the URL names, which has two channels for each, data and errors, that begin with the port.
func (h *Handler) portForward(w http.ResponseWriter, r *http.Request, ask *pipeline.Request, t target) error {
	named, err := ports(r)
	if err != nil {
		return err
	}
	node, pod, err := h.cfg.Nodes.Pod(r.Context(), ask, &corev1.PodPortForwardOptions{Ports: named})
	if err != nil {
		return err
	}
	options := &portforward.V4Options{Ports: named}
	if isWebSocket(r) && !tunnels(r) {
		if err := checkPorts(named); err != nil {
			return apierrors.NewBadRequest(err.Error())
		}
	}
	f := &forwarder{node: node, namespace: t.namespace, life: r.Context()}
	serve := func(w http.ResponseWriter, r *http.Request) {
		portforward.ServePortForward(w, r, f, pod.Name, string(pod.UID), options, streamIdle, streamOpen, portforward.SupportedProtocols)
	}
	if tunnels(r) {
		serveTunnel(w, r, serve)
		return nil
	}
	if !upgrades(r) {
		return apierrors.NewBadRequest("Upgrade request required")
	}
	serve(w, r)
	return nil
}

// checkPorts is what is wrong with the ports that a WebSocket shall be for, in the words of Kubernetes' kubelet.
func checkPorts(named []int32) error {
	switch {
	case len(named) == 0:
		return fmt.Errorf("query parameter %q is required", portforward.PortHeader)
	case len(named) > maxForwards:
		return fmt.Errorf("query parameter %q has more than %d ports", portforward.PortHeader, maxForwards)
	case slices.Contains(named, 0):
		return errors.New(`port "0" must be > 0`)
	}
	return nil
}

// forwarder joins a client's connections to a pod's ports.
type forwarder struct {
	node      nodev1.NodeServiceClient
	namespace string
	// life ends with the request; the streaming library gives each connection a context of its own that never does.
	life context.Context
	open atomic.Int64
}

var errTooManyForwards = errors.New("too many connections at once through one port-forward")

// PortForward implements portforward.PortForwarder.
func (f *forwarder) PortForward(ctx context.Context, name, _ string, port int32, client io.ReadWriteCloser) error {
	defer client.Close()
	if f.open.Add(1) > maxForwards {
		f.open.Add(-1)
		return errTooManyForwards
	}
	defer f.open.Add(-1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(f.life, cancel)()
	stream, err := f.node.PortForward(ctx)
	if err != nil {
		return plain(err)
	}
	start := &nodev1.PortForwardRequest_Start{Namespace: f.namespace, Pod: name, Port: uint32(port)}
	if err := stream.Send(&nodev1.PortForwardRequest{Request: &nodev1.PortForwardRequest_Start_{Start: start}}); err != nil && !errors.Is(err, io.EOF) {
		return plain(err)
	}
	go copyIn(client, func(b []byte) error {
		return stream.Send(&nodev1.PortForwardRequest{Request: &nodev1.PortForwardRequest_Data{Data: b}})
	}, func() error {
		return stream.Send(&nodev1.PortForwardRequest{Request: &nodev1.PortForwardRequest_DataClosed{DataClosed: true}})
	})
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) || f.life.Err() != nil {
			return nil
		}
		if err != nil {
			return plain(err)
		}
		if len(m.GetData()) == 0 {
			continue // the connection stands
		}
		if _, err := client.Write(m.GetData()); err != nil {
			return err
		}
	}
}

// tunnels reports whether a client asks for SPDY in a WebSocket.
func tunnels(r *http.Request) bool {
	return isWebSocket(r) && slices.Contains(subprotocols(r), portforward.WebsocketsSPDYTunnelingPortForwardV1)
}

func subprotocols(r *http.Request) []string {
	var out []string
	for _, header := range r.Header.Values("Sec-Websocket-Protocol") {
		for _, p := range strings.Split(header, ",") {
			out = append(out, strings.TrimSpace(p))
		}
	}
	return out
}

// serveTunnel opens the WebSocket, and serves as if its bytes were those of a connection that has just asked for SPDY.
func serveTunnel(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
	socket := websocket.Server{
		Handshake: func(cfg *websocket.Config, _ *http.Request) error {
			cfg.Protocol = []string{portforward.WebsocketsSPDYTunnelingPortForwardV1}
			return nil // who may connect has been decided by their credentials, not their origin
		},
		Handler: func(ws *websocket.Conn) {
			ws.PayloadType = websocket.BinaryFrame
			inner := r.Clone(r.Context())
			inner.Method = http.MethodPost
			inner.Header = http.Header{
				httpstream.HeaderConnection:                               {httpstream.HeaderUpgrade},
				httpstream.HeaderUpgrade:                                  {spdy.HeaderSpdy31},
				http.CanonicalHeaderKey(httpstream.HeaderProtocolVersion): {portforward.PortForwardV1Name},
			}
			serve(&tunnelled{conn: tunnel{ws}, header: http.Header{}}, inner)
		},
	}
	socket.ServeHTTP(w, r)
}

// tunnelled is the answer to a request that has been upgraded already: its header goes nowhere.
type tunnelled struct {
	conn   net.Conn
	header http.Header
}

// Header implements http.ResponseWriter.
func (t *tunnelled) Header() http.Header { return t.header }

// Write implements http.ResponseWriter.
func (t *tunnelled) Write(b []byte) (int, error) { return len(b), nil }

// WriteHeader implements http.ResponseWriter.
func (t *tunnelled) WriteHeader(int) {}

// Hijack implements http.Hijacker.
func (t *tunnelled) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return t.conn, bufio.NewReadWriter(bufio.NewReader(t.conn), bufio.NewWriter(t.conn)), nil
}

// tunnel is a WebSocket's bytes as a connection.
type tunnel struct{ *websocket.Conn }

// tunnelAddr names both ends of a tunnel; a WebSocket's own addresses are URLs that a client need not give.
type tunnelAddr struct{}

// Network implements net.Addr.
func (tunnelAddr) Network() string { return "websocket" }

// String implements net.Addr.
func (tunnelAddr) String() string { return "tunnel" }

// LocalAddr implements net.Conn.
func (tunnel) LocalAddr() net.Addr { return tunnelAddr{} }

// Close implements net.Conn. Both the streaming library and the WebSocket's server close it; the second time is no error, which the
// library would keep a goroutine waiting to report.
func (t tunnel) Close() error {
	_ = t.Conn.Close() // the peer has gone or is told; either way it is over
	return nil
}

// RemoteAddr implements net.Conn.
func (tunnel) RemoteAddr() net.Addr { return tunnelAddr{} }
