package server_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"

	"golang.org/x/net/websocket"

	"bareboat.dev/apiserver/authn"
)

// openWebSocket opens one as the administrator, in the protocols given.
func (h *harness) openWebSocket(t *testing.T, path string, protocols ...string) (*websocket.Conn, error) {
	t.Helper()
	cfg, err := websocket.NewConfig("wss://"+h.address+path, "https://"+h.address)
	check(t, err)
	cfg.Protocol = protocols
	cfg.TlsConfig = &tls.Config{RootCAs: h.pki.Pool, Certificates: []tls.Certificate{h.pki.Issue(t, "kubernetes-admin", authn.Masters)}, NextProtos: []string{"http/1.1"}}
	ws, err := cfg.DialContext(context.Background())
	if err == nil {
		t.Cleanup(func() { ws.Close() })
	}
	return ws, err
}

// received are all messages until the server closes.
func received(t *testing.T, ws *websocket.Conn) []string {
	t.Helper()
	var all []string
	for {
		var m []byte
		err := websocket.Message.Receive(ws, &m)
		if errors.Is(err, io.EOF) {
			return all
		}
		check(t, err)
		all = append(all, string(m))
	}
}

// A command is served in every protocol that clients speak over WebSocket, in base64 with each message as text behind its channel's
// digit. An empty message begins it; the protocols without a version say nothing at the end of a command that did well.
func TestCommandProtocols(t *testing.T) {
	h := withKubelet(t)
	for protocol, c := range map[string]struct{ in, out, end string }{
		"v5.channel.k8s.io":        {"\x00a\nb\n", "\x01A\nB\n", "\x03{"},
		"v4.channel.k8s.io":        {"\x00a\nb\n", "\x01A\nB\n", ""},
		"channel.k8s.io":           {"\x00a\nb\n", "\x01A\nB\n", ""},
		"":                         {"\x00a\nb\n", "\x01A\nB\n", ""},
		"v4.base64.channel.k8s.io": {"0" + base64.StdEncoding.EncodeToString([]byte("a\nb\n")), "1" + base64.StdEncoding.EncodeToString([]byte("A\nB\n")), ""},
		"base64.channel.k8s.io":    {"0" + base64.StdEncoding.EncodeToString([]byte("a\nb\n")), "1" + base64.StdEncoding.EncodeToString([]byte("A\nB\n")), ""},
	} {
		var offered []string
		if protocol != "" {
			offered = []string{"unknown.example", protocol}
		}
		ws, err := h.openWebSocket(t, "/api/v1/namespaces/default/pods/p/exec?command=cat&stdin=true&stdout=true", offered...)
		check(t, err)
		check(t, websocket.Message.Send(ws, []byte(c.in)))
		var opened, m []byte
		check(t, websocket.Message.Receive(ws, &opened))
		check(t, websocket.Message.Receive(ws, &m))
		if string(opened) != c.out[:1] {
			t.Errorf("%q began with %q", protocol, opened)
		}
		if string(m) != c.out {
			t.Errorf("%q: the output is %q, want %q", protocol, m, c.out)
		}
		if c.end != "" {
			check(t, websocket.Message.Send(ws, []byte{255, 0}))
			if end := received(t, ws); len(end) != 1 || !strings.HasPrefix(end[0], c.end) {
				t.Errorf("%q ended with %q", protocol, end)
			}
		}
	}
	ws, err := h.openWebSocket(t, "/api/v1/namespaces/default/pods/p/exec?command=true&stdout=true", "channel.k8s.io")
	check(t, err)
	if end := received(t, ws); len(end) != 1 || end[0] != "\x01" {
		t.Errorf("a command that did well ended with %q", end)
	}
	if _, err := h.openWebSocket(t, "/api/v1/namespaces/default/pods/p/exec?command=true&stdout=true", "unknown.example"); err == nil {
		t.Error("a protocol that nobody speaks was accepted")
	}
}

// A log is served over WebSocket as bytes or as base64 text, after an empty message that says that it is open.
func TestLogProtocols(t *testing.T) {
	h := withKubelet(t)
	for protocol, decode := range map[string]func(string) string{
		"":              strings.Clone,
		"binary.k8s.io": strings.Clone,
		"base64.binary.k8s.io": func(s string) string {
			b, err := base64.StdEncoding.DecodeString(s)
			check(t, err)
			return string(b)
		},
	} {
		var offered []string
		if protocol != "" {
			offered = []string{protocol}
		}
		ws, err := h.openWebSocket(t, "/api/v1/namespaces/default/pods/p/log", offered...)
		check(t, err)
		messages := received(t, ws)
		if len(messages) == 0 || messages[0] != "" {
			t.Fatalf("%q: the log began with %q", protocol, messages)
		}
		var text string
		for _, m := range messages {
			text += decode(m)
		}
		if text != "p 0\np 1\np 2\n" {
			t.Errorf("%q: the log is %q", protocol, text)
		}
	}
	if _, err := h.openWebSocket(t, "/api/v1/namespaces/default/pods/p/log", "channel.k8s.io"); err == nil {
		t.Error("a log was sent in a protocol for commands")
	}
}
