package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"bareboat.dev/apiserver/pipeline"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// Nodes finds the kubelet of a pod, once what is asked of it is authorized and its options, if it has any, are admitted.
type Nodes interface {
	Pod(ctx context.Context, r *pipeline.Request, options runtime.Object) (nodev1.NodeServiceClient, *corev1.Pod, error)
}

const (
	// streamIdle ends a terminal at which nothing happens, as kubelet's --streaming-connection-idle-timeout does by default.
	streamIdle = 4 * time.Hour
	// streamOpen is how long a client may take to open its streams.
	streamOpen = 30 * time.Second
)

// streamRoutes are the subresources that are served by a node.
func (h *Handler) streamRoutes() {
	h.streams = map[string]func(w http.ResponseWriter, r *http.Request, caller pipeline.Caller, t target) error{}
	if h.cfg.Backends != nil {
		for _, resource := range []string{"pods", "services", "nodes"} {
			h.streams["/"+resource+"/proxy"] = h.longRunning("", h.proxy)
		}
	}
	if h.cfg.Nodes == nil {
		return
	}
	h.streams["/pods/log"] = h.longRunning("get", h.logs)
	h.streams["/pods/exec"] = h.longRunning("create", h.exec)
	h.streams["/pods/attach"] = h.longRunning("create", h.attach)
	h.streams["/pods/portforward"] = h.longRunning("create", h.portForward)
}

// logs sends a container's log as plain text, or over WebSocket, for as long as the client wants it.
func (h *Handler) logs(w http.ResponseWriter, r *http.Request, ask *pipeline.Request, t target) error {
	q, err := logsRequest(r, t)
	if err != nil {
		return err
	}
	node, pod, err := h.cfg.Nodes.Pod(r.Context(), ask, nil)
	if err != nil {
		return err
	}
	if q.Ref.Container, err = containerOf(pod, q.Ref.Container); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	stream, err := node.Logs(ctx, q)
	if err != nil {
		return nodeError(err)
	}
	first, err := stream.Recv()
	if err != nil && !errors.Is(err, io.EOF) {
		return nodeError(err)
	}
	if isWebSocket(r) {
		logsToWebSocket(w, r, cancel, func() ([]byte, error) {
			data, was := first.GetData(), err
			if err == nil {
				first, err = stream.Recv()
			}
			return data, was
		})
		return nil
	}
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(w)
	for m := first; err == nil; m, err = stream.Recv() {
		if _, err := w.Write(m.GetData()); err != nil {
			return nil
		}
		if err := out.Flush(); err != nil {
			return nil
		}
	}
	return nil
}

func logsRequest(r *http.Request, t target) (*nodev1.LogsRequest, error) {
	q := r.URL.Query()
	out := &nodev1.LogsRequest{
		Ref:    &nodev1.ContainerRef{Namespace: t.namespace, Pod: t.name, Container: q.Get("container")},
		Follow: boolean(q, "follow"), Previous: boolean(q, "previous"), Timestamps: boolean(q, "timestamps"),
	}
	number := func(name string) (*wrapperspb.Int64Value, error) {
		if !q.Has(name) {
			return nil, nil
		}
		n, err := strconv.ParseInt(q.Get(name), 10, 64)
		if err != nil || n < 0 {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("%s: %q must be a whole number that is not negative", name, q.Get(name)))
		}
		return wrapperspb.Int64(n), nil
	}
	var err error
	if out.TailLines, err = number("tailLines"); err != nil {
		return nil, err
	}
	if out.LimitBytes, err = number("limitBytes"); err != nil {
		return nil, err
	}
	seconds, err := number("sinceSeconds")
	if err != nil {
		return nil, err
	}
	if seconds != nil {
		out.Since = timestamppb.New(time.Now().Add(-time.Duration(seconds.GetValue()) * time.Second))
	}
	if s := q.Get("sinceTime"); s != "" {
		at, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return nil, apierrors.NewBadRequest("sinceTime: " + err.Error())
		}
		out.Since = timestamppb.New(at)
	}
	return out, nil
}

// containerOf holds a container's name against its pod; without one the pod must have only one.
func containerOf(pod *corev1.Pod, name string) (string, error) {
	var names, inits []string
	for i := range pod.Spec.Containers {
		names = append(names, pod.Spec.Containers[i].Name)
	}
	for i := range pod.Spec.InitContainers {
		inits = append(inits, pod.Spec.InitContainers[i].Name)
	}
	switch {
	case name == "" && len(names) == 1:
		return names[0], nil
	case name == "":
		message := fmt.Sprintf("a container name must be specified for pod %s, choose one of: %s", pod.Name, names)
		if len(inits) > 0 {
			message += fmt.Sprintf(" or one of the init containers: %s", inits)
		}
		return "", apierrors.NewBadRequest(message)
	}
	ephemeral := func(c corev1.EphemeralContainer) bool { return c.Name == name }
	if !slices.Contains(names, name) && !slices.Contains(inits, name) && !slices.ContainsFunc(pod.Spec.EphemeralContainers, ephemeral) {
		return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
	}
	return name, nil
}

// exec runs a command in a container over WebSocket or SPDY.
func (h *Handler) exec(w http.ResponseWriter, r *http.Request, ask *pipeline.Request, t target) error {
	q := r.URL.Query()
	asked := &corev1.PodExecOptions{
		Stdin: boolean(q, "stdin"), Stdout: boolean(q, "stdout"), Stderr: boolean(q, "stderr"), TTY: boolean(q, "tty"), Container: q.Get("container"), Command: q["command"],
	}
	streams := func() (*remotecommand.Options, error) {
		if len(asked.Command) == 0 {
			return nil, apierrors.NewBadRequest("you must specify at least 1 command")
		}
		return streamsOf(r, asked.Stdin, asked.Stdout, asked.Stderr, asked.TTY)
	}
	session, pod, err := h.session(r, ask, t, asked, &asked.Container, streams)
	if err != nil {
		return err
	}
	if isWebSocket(r) {
		return session.serveWebSocket(w, r, asked.Command)
	}
	remotecommand.ServeExec(w, r, session, pod.Name, string(pod.UID), session.ref.GetContainer(), asked.Command, session.options, streamIdle, streamOpen, remotecommand.SupportedStreamingProtocols)
	return nil
}

// attach joins a container's own standard streams.
func (h *Handler) attach(w http.ResponseWriter, r *http.Request, ask *pipeline.Request, t target) error {
	q := r.URL.Query()
	asked := &corev1.PodAttachOptions{
		Stdin: boolean(q, "stdin"), Stdout: boolean(q, "stdout"), Stderr: boolean(q, "stderr"), TTY: boolean(q, "tty"), Container: q.Get("container"),
	}
	streams := func() (*remotecommand.Options, error) {
		return streamsOf(r, asked.Stdin, asked.Stdout, asked.Stderr, asked.TTY)
	}
	session, pod, err := h.session(r, ask, t, asked, &asked.Container, streams)
	if err != nil {
		return err
	}
	if isWebSocket(r) {
		return session.serveWebSocket(w, r, nil)
	}
	remotecommand.ServeAttach(w, r, session, pod.Name, string(pod.UID), session.ref.GetContainer(), session.options, streamIdle, streamOpen, remotecommand.SupportedStreamingProtocols)
	return nil
}

// session finds the container's kubelet. The options are checked both as they are asked for and as admission has left them.
func (h *Handler) session(r *http.Request, ask *pipeline.Request, t target, asked runtime.Object, container *string, streams func() (*remotecommand.Options, error)) (*session, *corev1.Pod, error) {
	if _, err := streams(); err != nil {
		return nil, nil, err
	}
	node, pod, err := h.cfg.Nodes.Pod(r.Context(), ask, asked)
	if err != nil {
		return nil, nil, err
	}
	options, err := streams()
	if err != nil {
		return nil, nil, err
	}
	name, err := containerOf(pod, *container)
	return &session{node: node, ref: &nodev1.ContainerRef{Namespace: t.namespace, Pod: t.name, Container: name}, options: options}, pod, err
}

// streamsOf checks which streams are asked for, as the streaming library does.
func streamsOf(r *http.Request, stdin, stdout, stderr, tty bool) (*remotecommand.Options, error) {
	form := map[string][]string{}
	for name, wanted := range map[string]bool{
		remotecommand.ExecStdinParam: stdin, remotecommand.ExecStdoutParam: stdout, remotecommand.ExecStderrParam: stderr, remotecommand.ExecTTYParam: tty,
	} {
		if wanted {
			form[name] = []string{"1"}
		}
	}
	c := r.Clone(r.Context())
	c.Form = form
	options, err := remotecommand.NewOptions(c)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return options, nil
}

// nodeError translates a kubelet's gRPC error.
func nodeError(err error) error {
	s := status.Convert(err)
	switch s.Code() {
	case codes.InvalidArgument, codes.FailedPrecondition:
		return apierrors.NewBadRequest(s.Message())
	case codes.NotFound:
		e := notFound()
		var status *apierrors.StatusError
		if errors.As(e, &status) {
			status.ErrStatus.Message = s.Message()
		}
		return e
	case codes.Unavailable:
		return apierrors.NewServiceUnavailable("the node does not answer: " + s.Message())
	}
	return apierrors.NewInternalError(errors.New(s.Message()))
}
