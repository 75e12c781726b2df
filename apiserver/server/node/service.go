package node

import (
	"context"
	"errors"
	"io"

	rpc "google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/apiserver/pipeline"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

var errNoStart = apierrors.NewBadRequest("the first request must carry start")

// Exec implements nodev1.NodeServiceServer.
func (p *Proxy) Exec(server rpc.BidiStreamingServer[nodev1.ExecRequest, nodev1.ExecResponse]) (err error) {
	first, err := server.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	ref := start.GetRef()
	if ref == nil {
		return errNoStart
	}
	ctx, cancel := context.WithCancel(server.Context())
	defer cancel()
	r := p.request(ctx, pipeline.Create, "exec", ref.GetNamespace(), ref.GetPod())
	defer p.observe(ctx, r)(&err)
	options := &corev1.PodExecOptions{
		Stdin: start.GetStdin(), Stdout: true, Stderr: !start.GetTty(), TTY: start.GetTty(), Container: ref.GetContainer(), Command: start.GetCommand(),
	}
	kubelet, _, err := p.Pod(ctx, r, options)
	if err != nil {
		return err
	}
	start.Stdin, start.Tty, start.Ref.Container, start.Command = options.Stdin, options.TTY, options.Container, options.Command
	client, err := kubelet.Exec(ctx)
	if err != nil {
		return err
	}
	return pump(server, client, first)
}

// Attach implements nodev1.NodeServiceServer.
func (p *Proxy) Attach(server rpc.BidiStreamingServer[nodev1.AttachRequest, nodev1.AttachResponse]) (err error) {
	first, err := server.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	ref := start.GetRef()
	if ref == nil {
		return errNoStart
	}
	ctx, cancel := context.WithCancel(server.Context())
	defer cancel()
	r := p.request(ctx, pipeline.Create, "attach", ref.GetNamespace(), ref.GetPod())
	defer p.observe(ctx, r)(&err)
	options := &corev1.PodAttachOptions{
		Stdin: start.GetStdin(), Stdout: true, Stderr: !start.GetTty(), TTY: start.GetTty(), Container: ref.GetContainer(),
	}
	kubelet, _, err := p.Pod(ctx, r, options)
	if err != nil {
		return err
	}
	start.Stdin, start.Tty, start.Ref.Container = options.Stdin, options.TTY, options.Container
	client, err := kubelet.Attach(ctx)
	if err != nil {
		return err
	}
	return pump(server, client, first)
}

// PortForward implements nodev1.NodeServiceServer.
func (p *Proxy) PortForward(server rpc.BidiStreamingServer[nodev1.PortForwardRequest, nodev1.PortForwardResponse]) (err error) {
	first, err := server.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil {
		return errNoStart
	}
	ctx, cancel := context.WithCancel(server.Context())
	defer cancel()
	r := p.request(ctx, pipeline.Create, "portforward", start.GetNamespace(), start.GetPod())
	defer p.observe(ctx, r)(&err)
	kubelet, _, err := p.Pod(ctx, r, &corev1.PodPortForwardOptions{Ports: []int32{int32(start.GetPort())}})
	if err != nil {
		return err
	}
	client, err := kubelet.PortForward(ctx)
	if err != nil {
		return err
	}
	return pump(server, client, first)
}

// Logs implements nodev1.NodeServiceServer.
func (p *Proxy) Logs(q *nodev1.LogsRequest, server rpc.ServerStreamingServer[nodev1.LogsResponse]) (err error) {
	ctx := server.Context()
	r := p.request(ctx, pipeline.Get, "log", q.GetRef().GetNamespace(), q.GetRef().GetPod())
	defer p.observe(ctx, r)(&err)
	kubelet, _, err := p.Pod(ctx, r, nil)
	if err != nil {
		return err
	}
	client, err := kubelet.Logs(ctx, q)
	if err != nil {
		return err
	}
	for {
		m, err := client.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := server.Send(m); err != nil {
			return err
		}
	}
}

// Stats implements nodev1.NodeServiceServer. It asks about one pod.
func (p *Proxy) Stats(ctx context.Context, q *nodev1.StatsRequest) (*nodev1.StatsResponse, error) {
	kubelet, pod, err := p.Pod(ctx, p.request(ctx, pipeline.Get, "", q.GetNamespace(), q.GetPod()), nil)
	if err != nil {
		return nil, err
	}
	return kubelet.Stats(ctx, &nodev1.StatsRequest{Namespace: pod.Namespace, Pod: pod.Name})
}

// ListImages implements nodev1.NodeServiceServer.
func (p *Proxy) ListImages(ctx context.Context, q *nodev1.ListImagesRequest) (*nodev1.ListImagesResponse, error) {
	kubelet, err := p.Node(ctx, pipeline.Get, q.GetNode())
	if err != nil {
		return nil, err
	}
	return kubelet.Service().ListImages(ctx, q)
}

// RemoveImage implements nodev1.NodeServiceServer.
func (p *Proxy) RemoveImage(ctx context.Context, q *nodev1.RemoveImageRequest) (*nodev1.RemoveImageResponse, error) {
	kubelet, err := p.Node(ctx, pipeline.Create, q.GetNode())
	if err != nil {
		return nil, err
	}
	return kubelet.Service().RemoveImage(ctx, q)
}

// LoadImage implements nodev1.NodeServiceServer.
func (p *Proxy) LoadImage(server rpc.ClientStreamingServer[nodev1.LoadImageRequest, nodev1.LoadImageResponse]) error {
	first, err := server.Recv()
	if err != nil {
		return err
	}
	if first.GetStart() == nil {
		return errNoStart
	}
	ctx, cancel := context.WithCancel(server.Context())
	defer cancel()
	kubelet, err := p.Node(ctx, pipeline.Create, first.GetStart().GetNode())
	if err != nil {
		return err
	}
	client, err := kubelet.Service().LoadImage(ctx)
	if err != nil {
		return err
	}
	for m := first; err == nil; m, err = server.Recv() {
		if client.Send(m) != nil {
			break // the kubelet has ended the call; CloseAndRecv says why
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	resp, err := client.CloseAndRecv()
	if err != nil {
		return err
	}
	return server.SendAndClose(resp)
}
