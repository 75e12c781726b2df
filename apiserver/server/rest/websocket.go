package rest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
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

// The protocols of remote commands over WebSocket besides versions 5 and 4 in their plain form: those of before there were versions,
// and two in which messages are base64 text, behind their channel's digit. A client may also name no protocol; it is then the first.
const (
	channelProtocol         = "channel.k8s.io"
	channelProtocolBase64   = "base64.channel.k8s.io"
	channelProtocolV4Base64 = "v4.base64.channel.k8s.io"
)

// commandProtocols are all protocols in which commands are served, over the same channels.
func commandProtocols(channels []wsstream.ChannelType) map[string]wsstream.ChannelProtocolConfig {
	binary, text := wsstream.ChannelProtocolConfig{Binary: true, Channels: channels}, wsstream.ChannelProtocolConfig{Channels: channels}
	return map[string]wsstream.ChannelProtocolConfig{
		remotecommand.StreamProtocolV5Name: binary, remotecommand.StreamProtocolV4Name: binary, channelProtocolV4Base64: text,
		channelProtocol: binary, "": binary, channelProtocolBase64: text,
	}
}

// unversioned tells the protocols in which the error channel carries the text of a failure, and nothing after a success.
func unversioned(protocol string) bool {
	return protocol == "" || protocol == channelProtocol || protocol == channelProtocolBase64
}

// serveWebSocket serves an exec (with a command) or attach (without) over WebSocket, in protocol version 5, which can
// close standard input, 4 (KEP-4006), or an older one.
func (s *session) serveWebSocket(w http.ResponseWriter, r *http.Request, command []string) error {
	channels := make([]wsstream.ChannelType, channelResize+1)
	channels[channelStdin] = choose(s.options.Stdin, wsstream.ReadChannel)
	channels[channelStdout] = choose(s.options.Stdout, wsstream.WriteChannel)
	channels[channelStderr] = choose(s.options.Stderr, wsstream.WriteChannel)
	channels[channelError] = wsstream.WriteChannel
	channels[channelResize] = wsstream.ReadChannel
	conn := wsstream.NewConn(commandProtocols(channels))
	conn.SetIdleTimeout(streamIdle)
	protocol, streams, err := conn.Open(w, r)
	if err != nil {
		return nil // Open has answered
	}
	defer conn.Close()
	// As in Kubernetes, an empty message tells the client that the streams are open.
	_, _ = streams[firstWritten(channels)].Write(nil)
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
	if b := lastWords(exitStatus(err), protocol); len(b) > 0 {
		_, _ = streams[channelError].Write(b) // the client may have left
	}
	return nil
}

// firstWritten is the lowest channel that the server writes to; the error channel always is one.
func firstWritten(channels []wsstream.ChannelType) int {
	return slices.Index(channels, wsstream.WriteChannel)
}

// lastWords is what the error channel carries at the end.
func lastWords(end *metav1.Status, protocol string) []byte {
	if unversioned(protocol) {
		return []byte(end.Message) // none of a success
	}
	b, _ := json.Marshal(end) // strings and a number
	return b
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

// The protocols of a log over WebSocket: its bytes, or base64 text of them. Without a name it is the first.
const (
	logProtocol       = "binary.k8s.io"
	logProtocolBase64 = "base64.binary.k8s.io"
)

var errProtocol = errors.New("none of the WebSocket's protocols is one for logs")

// logProtocolOf picks the first of a client's protocols in which logs are served.
func logProtocolOf(offered []string) (string, error) {
	if len(offered) == 0 {
		return "", nil
	}
	i := slices.IndexFunc(offered, func(p string) bool { return p == logProtocol || p == logProtocolBase64 })
	if i < 0 {
		return "", errProtocol
	}
	return offered[i], nil
}

// logsToWebSocket sends a log as messages until it ends or the client leaves, which end ends. As in Kubernetes, the first message is
// empty: it tells the client that the log is open.
func logsToWebSocket(w http.ResponseWriter, r *http.Request, end context.CancelFunc, next func() ([]byte, error)) {
	server := websocket.Server{
		Handshake: func(cfg *websocket.Config, _ *http.Request) error {
			protocol, err := logProtocolOf(cfg.Protocol)
			if cfg.Protocol = nil; protocol != "" {
				cfg.Protocol = []string{protocol}
			}
			return err
		},
		Handler: func(ws *websocket.Conn) {
			go func() {
				defer end()
				_, _ = io.Copy(io.Discard, ws)
			}()
			text := slices.Contains(ws.Config().Protocol, logProtocolBase64)
			var data []byte
			for err := error(nil); err == nil; data, err = next() {
				if text {
					err = websocket.Message.Send(ws, base64.StdEncoding.EncodeToString(data))
				} else {
					err = websocket.Message.Send(ws, data)
				}
				if err != nil {
					return
				}
			}
		},
	}
	server.ServeHTTP(w, r)
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
