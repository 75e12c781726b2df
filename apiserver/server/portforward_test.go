package server_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/websocket"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/server/servertest"
)

// restConfig is a client-go configuration for a user.
func (h *harness) restConfig(name string, groups ...string) *rest.Config {
	h.t.Helper()
	cert, key := servertest.Encode(h.t, h.pki.Issue(h.t, name, groups...))
	return &rest.Config{Host: "https://" + h.address, TLSClientConfig: rest.TLSClientConfig{CAData: h.pki.CA(), CertData: cert, KeyData: key}}
}

// podServer is a pod's server, which answers each connection; the connection is closed afterwards.
func podServer(t *testing.T, answer func(net.Conn)) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				answer(c)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// shouter is a pod's server: it reads until its client has finished sending, and then answers what it got in upper case.
func shouter(t *testing.T) (port int) {
	t.Helper()
	return podServer(t, func(c net.Conn) {
		if all, err := io.ReadAll(c); err == nil {
			c.Write(bytes.ToUpper(all))
		}
	})
}

// forwardPorts runs client-go's port-forward until the test ends and returns its local port.
func forwardPorts(t *testing.T, dialer httpstream.Dialer, remote int) (local uint16) {
	t.Helper()
	stop, ready := make(chan struct{}), make(chan struct{})
	f, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf("0:%d", remote)}, stop, ready, io.Discard, io.Discard)
	check(t, err)
	done := make(chan error, 1)
	go func() { done <- f.ForwardPorts() }()
	t.Cleanup(func() {
		close(stop)
		if err := <-done; err != nil && !errors.Is(err, portforward.ErrLostConnectionToPod) {
			t.Errorf("port-forward: %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("port-forward ended: %v", err)
	}
	ports, err := f.GetPorts()
	check(t, err)
	return ports[0].Local
}

// dialers are the ways in which kubectl forwards ports.
func dialers(t *testing.T, h *harness, pod string) map[string]httpstream.Dialer {
	t.Helper()
	cfg := h.restConfig("kubernetes-admin", authn.Masters)
	u, err := url.Parse(cfg.Host + "/api/v1/namespaces/default/pods/" + pod + "/portforward")
	check(t, err)
	transport, upgrader, err := spdy.RoundTripperFor(cfg)
	check(t, err)
	socket, err := portforward.NewSPDYOverWebsocketDialer(u, cfg)
	check(t, err)
	return map[string]httpstream.Dialer{"SPDY": spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, u), "WebSocket": socket}
}

// client-go forwards several connections at once over SPDY and over SPDY in a WebSocket: every byte arrives, both ways, and a
// client that has finished sending still gets its answer.
func TestPortForward(t *testing.T) {
	h := withKubelet(t)
	port := shouter(t)
	for name, dialer := range dialers(t, h, "p") {
		t.Run(name, func(t *testing.T) {
			local := forwardPorts(t, dialer, port)
			var group errgroup.Group
			for i := range 8 {
				group.Go(func() error { return shout(local, i*100_000+1) })
			}
			if err := group.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// shout sends size random bytes, finishes sending, and holds the answer against them.
func shout(local uint16, size int) error {
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", local))
	if err != nil {
		return err
	}
	conn := c.(*net.TCPConn)
	defer conn.Close()
	sent := make([]byte, size)
	rand.Read(sent)
	if _, err := conn.Write(sent); err != nil {
		return err
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, bytes.ToUpper(sent)) {
		return fmt.Errorf("sent %d bytes, got %d that are not theirs", len(sent), len(got))
	}
	return nil
}

// A connection to a port on which nothing listens is told so, and others through the same port-forward go on.
func TestPortForwardClosedPort(t *testing.T) {
	h := withKubelet(t)
	open := shouter(t)
	for name, dialer := range dialers(t, h, "p") {
		t.Run(name, func(t *testing.T) {
			conn, _, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
			check(t, err)
			defer conn.Close()
			_, said := exchange(t, conn, "1", 1, "hello")
			if !strings.Contains(said, "error forwarding port 1 to pod p") || !strings.Contains(said, "connection refused") {
				t.Errorf("told %q", said)
			}
			if got, said := exchange(t, conn, "2", open, "hello"); got != "HELLO" || said != "" {
				t.Errorf("the next connection: %q %q", got, said)
			}
		})
	}
}

// exchange forwards one connection by hand: it sends a text, finishes sending, and returns what came back and what was told.
func exchange(t *testing.T, conn httpstream.Connection, id string, port int, text string) (got, said string) {
	t.Helper()
	stream := func(kind string) httpstream.Stream {
		header := http.Header{}
		header.Set("streamType", kind)
		header.Set("port", strconv.Itoa(port))
		header.Set("requestID", id)
		s, err := conn.CreateStream(header)
		check(t, err)
		return s
	}
	errs := stream("error")
	errs.Close()
	data := stream("data")
	io.WriteString(data, text) // fails if the port is closed already
	data.Close()
	b, err := io.ReadAll(data)
	if err != nil {
		t.Logf("data: %v", err)
	}
	e, err := io.ReadAll(errs)
	check(t, err)
	conn.RemoveStreams(data, errs)
	return string(b), string(e)
}

// A port-forward to a pod that does not exist, or by someone who may not, is refused before anything is opened.
func TestPortForwardRefused(t *testing.T) {
	h := withKubelet(t)
	for name, dialer := range dialers(t, h, "none") {
		if _, _, err := dialer.Dial(portforward.PortForwardProtocolV1Name); err == nil {
			t.Errorf("%s: a pod that does not exist was reached", name)
		}
	}
	code, _, body := h.admin().rest(t, http.MethodPost, "/api/v1/namespaces/default/pods/p/portforward", "", "")
	if code != http.StatusBadRequest || !strings.Contains(string(body), "Upgrade request required") {
		t.Errorf("without an upgrade: %d %s", code, body)
	}
	code, _, body = h.as("system:kube-proxy").rest(t, http.MethodPost, "/api/v1/namespaces/default/pods/p/portforward", "", "")
	if code != http.StatusForbidden {
		t.Errorf("by someone who may not: %d %s", code, body)
	}
}

// echo is a pod's server that answers each byte as it comes, in upper case.
func echo(t *testing.T) (port int) {
	t.Helper()
	return podServer(t, func(c net.Conn) {
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			c.Write(bytes.ToUpper(buf[:n]))
		}
	})
}

// Over one WebSocket each port of the URL has a channel for data and one for errors, which both begin with the port, lower byte first;
// a port on which nobody listens is told so, and the others go on.
func TestPortForwardChannels(t *testing.T) {
	h := withKubelet(t)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	nobody := closed.Addr().(*net.TCPAddr).Port
	check(t, closed.Close())
	first, last := echo(t), echo(t)
	numbers := []int{first, nobody, last}
	path := fmt.Sprintf("/api/v1/namespaces/default/pods/p/portforward?ports=%d,%d&ports=%d", first, nobody, last)
	for _, protocol := range []string{"v4.channel.k8s.io", "v4.base64.channel.k8s.io", ""} {
		t.Run(protocol, func(t *testing.T) {
			var offered []string
			if protocol != "" {
				offered = []string{protocol}
			}
			ws, err := h.openWebSocket(t, path, offered...)
			check(t, err)
			coded := strings.Contains(protocol, "base64")
			for _, channel := range []int{0, 4} {
				m := append([]byte{byte(channel)}, "hello"...)
				if coded {
					m = []byte(fmt.Sprint(channel) + base64.StdEncoding.EncodeToString([]byte("hello")))
				}
				check(t, websocket.Message.Send(ws, m))
			}
			got := map[int][]byte{}
			done := func() bool {
				return len(got[0]) == 7 && len(got[4]) == 7 && len(got[3]) > 2 && len(got[1]) == 2 && len(got[2]) == 2 && len(got[5]) == 2
			}
			for !done() {
				var m []byte
				check(t, websocket.Message.Receive(ws, &m))
				channel, data := int(m[0]), m[1:]
				if coded {
					channel = int(m[0] - '0')
					data, err = base64.StdEncoding.DecodeString(string(m[1:]))
					check(t, err)
				}
				got[channel] = append(got[channel], data...)
			}
			for channel, all := range got {
				if port := int(binary.LittleEndian.Uint16(all)); port != numbers[channel/2] {
					t.Errorf("channel %d begins with port %d, want %d", channel, port, numbers[channel/2])
				}
			}
			if string(got[0][2:]) != "HELLO" || string(got[4][2:]) != "HELLO" {
				t.Errorf("answers %q and %q", got[0], got[4])
			}
			if text := string(got[3][2:]); !strings.HasPrefix(text, fmt.Sprintf("error forwarding port %d to pod p, uid ", nobody)) || !strings.Contains(text, "connection refused") {
				t.Errorf("error %q", text)
			}
		})
	}
	for query, want := range map[string]string{
		"": `query parameter \"port\" is required`, "?ports=0": `port \"0\" must be \u003e 0`, "?ports=x": `cannot convert to []int32: strconv.ParseUint: parsing \"x\": invalid syntax`,
	} {
		q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.admin().base+"/api/v1/namespaces/default/pods/p/portforward"+query, nil)
		check(t, err)
		for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"} {
			q.Header.Set(name, value)
		}
		client := h.admin().http
		client.Transport.(*http.Transport).ForceAttemptHTTP2 = false
		resp, err := client.Do(q)
		check(t, err)
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), want) {
			t.Errorf("%q: %d %s, want %s", query, resp.StatusCode, body, want)
		}
	}
}
