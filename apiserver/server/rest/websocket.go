package rest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"

	"golang.org/x/net/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"
	utilexec "k8s.io/utils/exec"

	"bareboat.dev/apiserver/registry/codec"
)

// The channels of the remote command protocol over WebSocket, the first byte of each message.
const (
	channelStdin = iota
	channelStdout
	channelStderr
	channelError
	channelResize
)

func isWebSocket(r *http.Request) bool { return wsstream.IsWebSocketRequest(r) }

// serveWebSocket serves an exec (with a command) or attach (without) over WebSocket, in protocol version 5, which can
// close standard input, or 4 (KEP-4006).
func (s *session) serveWebSocket(w http.ResponseWriter, r *http.Request, command []string) error {
	channels := make([]wsstream.ChannelType, channelResize+1)
	channels[channelStdin] = choose(s.options.Stdin, wsstream.ReadChannel)
	channels[channelStdout] = choose(s.options.Stdout, wsstream.WriteChannel)
	channels[channelStderr] = choose(s.options.Stderr, wsstream.WriteChannel)
	channels[channelError] = wsstream.WriteChannel
	channels[channelResize] = wsstream.ReadChannel
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{
		remotecommand.StreamProtocolV5Name: {Binary: true, Channels: channels},
		remotecommand.StreamProtocolV4Name: {Binary: true, Channels: channels},
	})
	conn.SetIdleTimeout(streamIdle)
	_, streams, err := conn.Open(w, r)
	if err != nil {
		return nil // Open has answered
	}
	defer conn.Close()
	var in io.Reader
	var out, errOut io.WriteCloser
	if s.options.Stdin {
		in = streams[channelStdin]
	}
	if s.options.Stdout {
		out = streams[channelStdout]
	}
	if s.options.Stderr {
		errOut = streams[channelStderr]
	}
	sizes := make(chan remotecommand.TerminalSize)
	go readSizes(streams[channelResize], sizes, r.Context().Done())
	if command == nil {
		err = s.AttachContainer(r.Context(), "", "", "", in, out, errOut, s.options.TTY, sizes)
	} else {
		err = s.ExecInContainer(r.Context(), "", "", "", command, in, out, errOut, s.options.TTY, sizes, 0)
	}
	b, err := json.Marshal(exitStatus(err))
	if err == nil {
		_, _ = streams[channelError].Write(b) // the client may have left
	}
	return nil
}

func choose(used bool, t wsstream.ChannelType) wsstream.ChannelType {
	if used {
		return t
	}
	return wsstream.IgnoreChannel
}

// readSizes decodes the resize channel's JSON objects.
func readSizes(from io.Reader, to chan<- remotecommand.TerminalSize, done <-chan struct{}) {
	defer close(to)
	for d := json.NewDecoder(from); ; {
		var size remotecommand.TerminalSize
		if d.Decode(&size) != nil {
			return
		}
		select {
		case to <- size:
		case <-done:
			return
		}
	}
}

// exitStatus is what the error channel says at the end, in Kubernetes' form.
func exitStatus(err error) *metav1.Status {
	var exit utilexec.ExitError
	switch {
	case err == nil:
		return &metav1.Status{Status: metav1.StatusSuccess}
	case errors.As(err, &exit):
		return &metav1.Status{
			Status: metav1.StatusFailure, Reason: "NonZeroExitCode", Message: "command terminated with non-zero exit code: " + err.Error(),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: "ExitCode", Message: strconv.Itoa(exit.ExitStatus())}}},
		}
	}
	s := apierrors.NewInternalError(err).ErrStatus
	return &s
}

// serveWebSocket sends a watch's events as messages: text for JSON, binary for protobuf, as Kubernetes does.
func (s *watchStream) serveWebSocket(ctx context.Context, w http.ResponseWriter, r *http.Request, serve func(context.Context)) {
	s.message = true
	server := websocket.Server{
		Handshake: func(cfg *websocket.Config, _ *http.Request) error {
			cfg.Protocol = nil // none is needed
			return nil
		},
		Handler: func(ws *websocket.Conn) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			ws.PayloadType = websocket.TextFrame
			if s.f.media == codec.Protobuf {
				ws.PayloadType = websocket.BinaryFrame
			}
			go func() {
				defer cancel() // the client has closed, or is gone
				_, _ = io.Copy(io.Discard, ws)
			}()
			s.out = messages{ws}
			serve(ctx)
		},
	}
	server.ServeHTTP(w, r)
}

// messages is a WebSocket, of which each Write is a message.
type messages struct{ io.Writer }

// Flush implements eventWriter.
func (messages) Flush() error { return nil }
