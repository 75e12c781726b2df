// Package node serves bareboat.node.v1.NodeService on behalf of the kubelets: it authorizes a request as the Kubernetes
// subresource that it is (pods/log, pods/exec, pods/attach, pods/portforward, nodes/proxy), finds the node that runs the pod,
// and passes the stream on over the kubelet's own TLS port.
//
// Where a kubelet listens is what its Node's status says, which that kubelet writes itself. So that no kubelet can lead the
// server, with its powerful certificate, to anybody else, whoever answers must prove to be that very node.
package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	rpc "google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/pipeline"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

const (
	// defaultKubeletPort is used when a Node does not say where its kubelet listens.
	defaultKubeletPort = 10250
	// idle is how long a connection to a kubelet is kept without a stream.
	idle = 5 * time.Minute
)

// Config is what a Proxy is made of.
type Config struct {
	Pipeline *pipeline.Pipeline
	// TLS makes the configuration of each connection to a kubelet: the API server's certificate and the kubelets' authorities.
	TLS func() (*tls.Config, error)
	// Caller returns who sent a call.
	Caller func(ctx context.Context) pipeline.Caller
	// LongRunning is told +1 when a stream into a pod begins and -1 when it ends; nil if nobody counts.
	LongRunning func(r *pipeline.Request, delta int)
}

// Proxy implements nodev1.NodeServiceServer.
type Proxy struct {
	nodev1.UnimplementedNodeServiceServer
	cfg Config

	mu       sync.Mutex
	kubelets map[string]*Kubelet // by node
}

// New returns a proxy without connections.
func New(cfg Config) *Proxy { return &Proxy{cfg: cfg, kubelets: map[string]*Kubelet{}} }

// Close ends all connections to kubelets.
func (p *Proxy) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for name, k := range p.kubelets {
		errs = append(errs, k.close())
		delete(p.kubelets, name)
	}
	return errors.Join(errs...)
}

// Pod authorizes a request to a part of a pod, asks admission about its options, if it has any (corev1.PodExecOptions and the like),
// which it may change, and returns the kubelet that runs the pod.
func (p *Proxy) Pod(ctx context.Context, r *pipeline.Request, options runtime.Object) (nodev1.NodeServiceClient, *corev1.Pod, error) {
	namespace, name := r.Namespace, r.Name
	if namespace == "" || name == "" {
		return nil, nil, apierrors.NewBadRequest("namespace and pod are required")
	}
	if err := p.cfg.Pipeline.Authorize(ctx, r); err != nil {
		return nil, nil, err
	}
	if options != nil {
		if err := p.cfg.Pipeline.AdmitConnect(ctx, r, options); err != nil {
			return nil, nil, err
		}
	}
	obj, ok, err := p.cfg.Pipeline.Object(ctx, "", "pods", namespace, name, true)
	if err != nil {
		return nil, nil, err
	}
	if !ok {
		return nil, nil, apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, name)
	}
	pod := obj.(*corev1.Pod)
	if pod.Spec.NodeName == "" {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", name))
	}
	k, err := p.Kubelet(ctx, pod.Spec.NodeName)
	if err != nil {
		return nil, nil, err
	}
	return k.Service(), pod, nil
}

// request is a call through gRPC as the request to a part of a pod that it is.
func (p *Proxy) request(ctx context.Context, verb pipeline.Verb, sub, namespace, name string) *pipeline.Request {
	return &pipeline.Request{
		Caller: p.cfg.Caller(ctx), Connect: true, Served: true, Verb: verb,
		Ref: pipeline.Ref{Version: "v1", Resource: "pods", Namespace: namespace, Name: name, Subresource: sub},
	}
}

// observe begins to count a stream into a pod; what it returns ends it and tells the observers, such as the audit log, how it went.
func (p *Proxy) observe(ctx context.Context, r *pipeline.Request) func(err *error) {
	if p.cfg.LongRunning != nil {
		p.cfg.LongRunning(r, 1)
	}
	start := p.cfg.Pipeline.Now()
	return func(err *error) {
		if p.cfg.LongRunning != nil {
			p.cfg.LongRunning(r, -1)
		}
		p.cfg.Pipeline.Observed(ctx, r, start, *err)
	}
}

// Node lets a call about a node itself pass as the request to nodes/proxy that it is, and returns the node's kubelet. To admission,
// the path of the request is that of the gRPC method.
func (p *Proxy) Node(ctx context.Context, verb pipeline.Verb, name string) (*Kubelet, error) {
	if name == "" {
		return nil, apierrors.NewBadRequest("node is required")
	}
	r := &pipeline.Request{Caller: p.cfg.Caller(ctx), Connect: true, Served: true, Verb: verb, Ref: pipeline.Ref{Version: "v1", Resource: "nodes", Name: name, Subresource: "proxy"}}
	if err := p.cfg.Pipeline.Authorize(ctx, r); err != nil {
		return nil, err
	}
	method, _ := rpc.Method(ctx)
	if err := p.cfg.Pipeline.AdmitConnect(ctx, r, &corev1.NodeProxyOptions{Path: method}); err != nil {
		return nil, err
	}
	return p.Kubelet(ctx, name)
}

// Kubelet returns the way to a node's kubelet. It authorizes nobody: that is what Pod and Node are for.
func (p *Proxy) Kubelet(ctx context.Context, name string) (*Kubelet, error) {
	obj, ok, err := p.cfg.Pipeline.Object(ctx, "", "nodes", "", name, true)
	if err != nil {
		return nil, err
	}
	if !ok {
		p.forget(name)
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "nodes"}, name)
	}
	address, err := kubeletAddress(obj.(*corev1.Node))
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.kubelets[name]
	if old != nil && old.address == address {
		return old, nil
	}
	k, err := newKubelet(name, address, p.cfg.TLS)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	p.kubelets[name] = k
	if old != nil {
		_ = old.close() // the node has moved: what was open at its old address is of no use
	}
	return k, nil
}

// forget ends the connections to a node that is gone.
func (p *Proxy) forget(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k, ok := p.kubelets[name]; ok {
		delete(p.kubelets, name)
		_ = k.close()
	}
}

// kubeletAddress is where a node's kubelet listens, preferring the node's internal address.
func kubeletAddress(n *corev1.Node) (string, error) {
	port := int(n.Status.DaemonEndpoints.KubeletEndpoint.Port)
	if port == 0 {
		port = defaultKubeletPort
	}
	for _, want := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP, corev1.NodeInternalDNS, corev1.NodeExternalDNS, corev1.NodeHostName} {
		for _, a := range n.Status.Addresses {
			if a.Type == want && a.Address != "" {
				return net.JoinHostPort(a.Address, strconv.Itoa(port)), nil
			}
		}
	}
	return "", apierrors.NewServiceUnavailable(fmt.Sprintf("node %q has no address yet", n.Name))
}

// pump passes messages both ways until the kubelet ends the stream; first is the request that has been read already.
func pump[Req, Resp any](server rpc.BidiStreamingServer[Req, Resp], client rpc.BidiStreamingClient[Req, Resp], first *Req) error {
	if err := client.Send(first); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	go func() {
		// Ends with the call: Recv fails when the server's handler has returned.
		for {
			m, err := server.Recv()
			if err != nil {
				client.CloseSend()
				return
			}
			if client.Send(m) != nil {
				return
			}
		}
	}()
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
