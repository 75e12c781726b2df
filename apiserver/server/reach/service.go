package reach

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"bareboat.dev/apiserver/watchcache"
)

// Service is where one of a Service's ready pods answers. ID is "<name>", "<name>:<port>" or "<scheme>:<name>:<port>"; a port is
// one of the Service's, by name or number.
func (n *Network) Service(ctx context.Context, namespace, id string) (*url.URL, http.RoundTripper, error) {
	scheme, name, port, ok := utilnet.SplitSchemeNamePort(id)
	if !ok {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("invalid service request %q", id))
	}
	svc, err := n.service(ctx, namespace, name)
	if err != nil {
		return nil, nil, err
	}
	if number, err := strconv.ParseInt(port, 10, 64); err == nil {
		p := portOf(svc, number)
		if p == nil {
			return nil, nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", number, name))
		}
		port = p.Name
	}
	to, err := n.backend(ctx, svc, port, id)
	if err != nil {
		return nil, nil, err
	}
	if scheme == "" {
		scheme = "http"
	}
	return &url.URL{Scheme: scheme, Host: to.AddrPort.String()}, n.transport(to.Addr(), to.pod), nil
}

// Ready reports whether Dial has somewhere to connect to; it does not connect.
func (n *Network) Ready(ctx context.Context, namespace, name string, port int32) error {
	_, _, err := n.resolve(ctx, namespace, name, port)
	return err
}

// Dial connects to one of a Service's ready pods for a port number of the Service, or, for a Service of type ExternalName, to that name.
func (n *Network) Dial(ctx context.Context, namespace, name string, port int32) (net.Conn, error) {
	to, external, err := n.resolve(ctx, namespace, name, port)
	switch {
	case err != nil:
		return nil, err
	case external != "":
		return n.cfg.Dial(ctx, "tcp", net.JoinHostPort(external, strconv.Itoa(int(port))))
	case n.tunnelled(to.Addr(), to.pod):
		return n.tunnel(ctx, targetOf(to.pod), to.AddrPort)
	}
	return n.cfg.Dial(ctx, "tcp", to.AddrPort.String())
}

// resolve finds one of a Service's ready pods, or the name that the Service stands for.
func (n *Network) resolve(ctx context.Context, namespace, name string, port int32) (to backend, external string, err error) {
	svc, err := n.service(ctx, namespace, name)
	if err != nil {
		return backend{}, "", err
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return backend{}, svc.Spec.ExternalName, nil
	}
	p := portOf(svc, int64(port))
	if p == nil {
		return backend{}, "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", port, name))
	}
	to, err = n.backend(ctx, svc, p.Name, name)
	return to, "", err
}

func (n *Network) service(ctx context.Context, namespace, name string) (*corev1.Service, error) {
	obj, ok, err := n.cfg.Pipeline.Object(ctx, "", "services", namespace, name, false)
	if err == nil && !ok {
		// It may have been made a moment ago, by whoever asks.
		obj, ok, err = n.cfg.Pipeline.Object(ctx, "", "services", namespace, name, true)
	}
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "services"}, name)
	}
	return obj.(*corev1.Service), nil
}

func portOf(svc *corev1.Service, number int64) *corev1.ServicePort {
	for i := range svc.Spec.Ports {
		if int64(svc.Spec.Ports[i].Port) == number {
			return &svc.Spec.Ports[i]
		}
	}
	return nil
}

// candidate is an endpoint that may be picked.
type candidate struct {
	pod     *corev1.ObjectReference
	address string
	port    int32
}

// backend is where a pod answers.
type backend struct {
	netip.AddrPort
	pod *corev1.Pod
}

// backend picks a ready endpoint with a port of that name. As in Kubernetes an endpoint counts only if it is a pod of the
// Service's namespace that has this address: who may write endpoints must not thereby choose where the server connects.
func (n *Network) backend(ctx context.Context, svc *corev1.Service, port, id string) (backend, error) {
	// What is ready may have become so a moment ago: only a fresh look says that nothing is.
	for _, fresh := range []bool{false, true} {
		found, err := n.candidates(ctx, svc, port, fresh)
		if err != nil {
			return backend{}, err
		}
		for len(found) > 0 {
			i := pick(len(found))
			if to, ok := n.check(ctx, svc.Namespace, found[i], fresh); ok {
				return to, nil
			}
			found = slices.Delete(found, i, i+1)
		}
	}
	return backend{}, apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", id))
}

func (n *Network) candidates(ctx context.Context, svc *corev1.Service, port string, fresh bool) ([]candidate, error) {
	q := watchcache.Query{Namespace: svc.Namespace, Labels: labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: svc.Name})}
	published, err := n.cfg.Pipeline.Select(ctx, discoveryv1.GroupName, "endpointslices", q, fresh)
	if err != nil {
		return nil, err
	}
	var out []candidate
	for _, obj := range published {
		slice := obj.(*discoveryv1.EndpointSlice)
		number := slicePort(slice, port)
		if number == 0 || slice.AddressType == discoveryv1.AddressTypeFQDN {
			continue
		}
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			if e.TargetRef != nil && len(e.Addresses) > 0 && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
				out = append(out, candidate{pod: e.TargetRef, address: e.Addresses[0], port: number})
			}
		}
	}
	return out, nil
}

func slicePort(slice *discoveryv1.EndpointSlice, name string) int32 {
	for _, p := range slice.Ports {
		if p.Port != nil && (p.Name == nil && name == "" || p.Name != nil && *p.Name == name) {
			return *p.Port
		}
	}
	return 0
}

// check holds an endpoint against its pod.
func (n *Network) check(ctx context.Context, namespace string, c candidate, fresh bool) (to backend, ok bool) {
	if c.pod.Kind != "Pod" || c.pod.Namespace != "" && c.pod.Namespace != namespace {
		return backend{}, false
	}
	a, err := netip.ParseAddr(c.address)
	if err != nil || !proxyable(a) {
		return backend{}, false
	}
	obj, found, err := n.cfg.Pipeline.Object(ctx, "", "pods", namespace, c.pod.Name, fresh)
	if err != nil || !found {
		return backend{}, false
	}
	pod := obj.(*corev1.Pod)
	for _, ip := range pod.Status.PodIPs {
		if have, err := netip.ParseAddr(ip.IP); err == nil && have == a {
			return backend{netip.AddrPortFrom(a, uint16(c.port)), pod}, true
		}
	}
	return backend{}, false
}
