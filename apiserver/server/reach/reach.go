// Package reach is how the API server reaches what runs in the cluster: pods, the pods behind a Service, and nodes. It is for the
// proxy subresources, aggregated APIs and webhooks.
//
//	location, transport, err := network.Service(ctx, "default", "https:web:443")
//	conn, err := network.Dial(ctx, "kube-system", "metrics-server", 443)
//
// A pod is dialled directly if this host has a route to it that is more than its default route, and through the kubelet's
// NodeService otherwise: a control-plane host need not be part of the pod network (docs/decisions/0010). Only addresses that
// Kubernetes lets a cluster's objects name are dialled: no loopback, link-local or multicast ones.
//
// Whoever writes a pod's status, its node, says which address the pod has. So a connection through a kubelet is asked for by the pod, its
// uid included, from the node that the pod was bound to, and never by an address alone: a node can only lie about its own pods. What a
// host dials by its own routes is as trustworthy as those, as in Kubernetes; TLS is for the rest.
package reach

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/server/node"
)

const (
	dialTimeout = 10 * time.Second
	// idleTime and idlePerHost bound the connections that are kept for the next request.
	idleTime    = 90 * time.Second
	idlePerHost = 8
	idleAll     = 256
)

// errNotAllowed is Kubernetes' wording for addresses that nothing in the cluster may lead the server to.
var errNotAllowed = errors.New("address not allowed")

// Config is what a Network is made of.
type Config struct {
	Pipeline *pipeline.Pipeline
	// Nodes are the ways to the kubelets; nil if there are none.
	Nodes *node.Proxy
	// Dial and Routed replace the host's network in tests: Dial opens a connection, Routed reports whether this host has a
	// route of its own to an address.
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Routed func(netip.Addr) bool
}

// Network reaches pods, Services and nodes.
type Network struct {
	cfg Config
	// pods speaks to pods and to nodes' ports, whose certificates nobody can check. tunnels does so through kubelets, each time anew: at
	// the far end of a connection is whichever pod it was made for, and an address does not say which that is.
	pods, tunnels *http.Transport
}

// target is a pod on a node.
type target struct{ node, namespace, pod, uid string }

func targetOf(pod *corev1.Pod) target {
	return target{node: pod.Spec.NodeName, namespace: pod.Namespace, pod: pod.Name, uid: string(pod.UID)}
}

// New returns a network.
func New(cfg Config) *Network {
	n := &Network{cfg: cfg}
	if n.cfg.Dial == nil {
		d := &net.Dialer{Timeout: dialTimeout, Control: allowed}
		n.cfg.Dial = d.DialContext
	}
	if n.cfg.Routed == nil {
		n.cfg.Routed = routed
	}
	n.pods = &http.Transport{
		DialContext: n.cfg.Dial, TLSHandshakeTimeout: dialTimeout, DisableCompression: true,
		IdleConnTimeout: idleTime, MaxIdleConnsPerHost: idlePerHost, MaxIdleConns: idleAll,
		// As in Kubernetes: a pod's certificate is for names that only its own clients know.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	n.tunnels = n.pods.Clone()
	n.tunnels.DialContext, n.tunnels.DisableKeepAlives = n.dialTarget, true
	return n
}

// transport is how a pod is spoken to at an address of its own.
func (n *Network) transport(a netip.Addr, pod *corev1.Pod) http.RoundTripper {
	if !n.tunnelled(a, pod) {
		return n.pods
	}
	return through{n.tunnels, targetOf(pod)}
}

// tunnelled reports whether a pod is reached through its kubelet. Pods on their host's network have no address of their own: their host is
// dialled.
func (n *Network) tunnelled(a netip.Addr, pod *corev1.Pod) bool {
	return n.cfg.Nodes != nil && !pod.Spec.HostNetwork && pod.Spec.NodeName != "" && !n.cfg.Routed(a)
}

// through has a transport speak to one pod.
type through struct {
	transport *http.Transport
	to        target
}

type targetKey struct{}

// RoundTrip implements http.RoundTripper.
func (t through) RoundTrip(q *http.Request) (*http.Response, error) {
	return t.transport.RoundTrip(q.WithContext(context.WithValue(q.Context(), targetKey{}, t.to)))
}

// dialTarget opens a connection to the pod that a request is for.
func (n *Network) dialTarget(ctx context.Context, _, hostport string) (net.Conn, error) {
	t, ok := ctx.Value(targetKey{}).(target)
	to, err := netip.ParseAddrPort(hostport)
	if err != nil || !ok {
		return nil, fmt.Errorf("%w: %s", errNotAllowed, hostport)
	}
	return n.tunnel(ctx, t, to)
}

// Close ends idle connections.
func (n *Network) Close() { n.pods.CloseIdleConnections() }

// allowed refuses addresses at the last moment, when names have been resolved.
func allowed(_, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if !proxyable(a.Addr()) {
		return errNotAllowed
	}
	return nil
}

func proxyable(a netip.Addr) bool { return a.Unmap().IsGlobalUnicast() }

// Pod is where a pod answers. ID is "<name>", "<name>:<port>" or "<scheme>:<name>:<port>".
func (n *Network) Pod(ctx context.Context, namespace, id string) (*url.URL, http.RoundTripper, error) {
	scheme, name, port, ok := utilnet.SplitSchemeNamePort(id)
	if !ok {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("invalid pod request %q", id))
	}
	pod, err := n.pod(ctx, namespace, name)
	if err != nil {
		return nil, nil, err
	}
	if port == "" {
		port = firstPort(pod)
	}
	a, err := netip.ParseAddr(address(pod))
	if err != nil || !proxyable(a) {
		return nil, nil, apierrors.NewBadRequest(errNotAllowed.Error())
	}
	return location(scheme, a.String(), port), n.transport(a, pod), nil
}

func (n *Network) pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	obj, ok, err := n.cfg.Pipeline.Object(ctx, "", "pods", namespace, name, true)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, name)
	}
	return obj.(*corev1.Pod), nil
}

// firstPort is the first port that any of the pod's containers names.
func firstPort(pod *corev1.Pod) string {
	for i := range pod.Spec.Containers {
		if ports := pod.Spec.Containers[i].Ports; len(ports) > 0 {
			return strconv.Itoa(int(ports[0].ContainerPort))
		}
	}
	return ""
}

func address(pod *corev1.Pod) string {
	if len(pod.Status.PodIPs) > 0 {
		return pod.Status.PodIPs[0].IP
	}
	return pod.Status.PodIP
}

// location is a URL of a host, and a port if there is one.
func location(scheme, host, port string) *url.URL {
	if scheme == "" {
		scheme = "http"
	}
	if port != "" {
		return &url.URL{Scheme: scheme, Host: net.JoinHostPort(host, port)}
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		host = "[" + host + "]"
	}
	return &url.URL{Scheme: scheme, Host: host}
}

// Node is where a node answers: its kubelet, with the API server's certificate, or another port of it, without.
func (n *Network) Node(ctx context.Context, id string) (*url.URL, http.RoundTripper, error) {
	scheme, name, port, ok := utilnet.SplitSchemeNamePort(id)
	if !ok {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("invalid node request %q", id))
	}
	if n.cfg.Nodes == nil {
		return nil, nil, apierrors.NewServiceUnavailable("this server has no credentials for kubelets")
	}
	k, err := n.cfg.Nodes.Kubelet(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	host, own, err := net.SplitHostPort(k.Address())
	if err != nil {
		return nil, nil, apierrors.NewInternalError(err)
	}
	if port == "" || port == own {
		return location("https", host, own), k.HTTP(), nil
	}
	if a, err := netip.ParseAddr(host); err == nil && !proxyable(a) {
		return nil, nil, apierrors.NewBadRequest(errNotAllowed.Error())
	}
	return location(scheme, host, port), n.pods, nil
}

// pick chooses one of n.
func pick(n int) int { return rand.IntN(n) }
