package bootstrap

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/watchcache"
)

const (
	identityLabel = "apiserver.kubernetes.io/identity"
	identityValue = "kube-apiserver"
	addressNote   = "bareboat.dev/advertise-address"
)

// renew writes this server's Lease and then the Endpoints and the EndpointSlice, if they are not right.
func (k *Keeper) renew(ctx context.Context) error {
	if err := k.renewLease(ctx); err != nil {
		return err
	}
	return k.publish(ctx, "")
}

// leave deletes the Lease and publishes the others.
func (k *Keeper) leave(ctx context.Context) error {
	_, err := k.cfg.Pipeline.Do(ctx, request(pipeline.Delete, coordinationv1.SchemeGroupVersion.WithKind("Lease"), "leases", metav1.NamespaceSystem, k.leaseName()))
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	return k.publish(ctx, k.leaseName())
}

func (k *Keeper) leaseName() string { return "apiserver-" + k.cfg.Identity }

func (k *Keeper) renewLease(ctx context.Context) error {
	seconds, now := int32(leaseSeconds), metav1.NewMicroTime(k.cfg.Now())
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceSystem, Name: k.leaseName(), Labels: map[string]string{identityLabel: identityValue},
			Annotations: map[string]string{addressNote: k.cfg.Address + " " + strconv.Itoa(int(k.cfg.Port))},
		},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &k.cfg.Identity, LeaseDurationSeconds: &seconds, AcquireTime: &now, RenewTime: &now},
	}
	old, ok, err := k.cfg.Pipeline.Object(ctx, coordinationv1.GroupName, "leases", metav1.NamespaceSystem, lease.Name, false)
	if err != nil {
		return err
	}
	if ok {
		have := old.(*coordinationv1.Lease)
		lease.Spec.AcquireTime = have.Spec.AcquireTime
		lease.ResourceVersion = have.ResourceVersion
		_, err := k.write(ctx, pipeline.Update, coordinationv1.GroupName, "leases", lease)
		if !apierrors.IsNotFound(err) {
			return err
		}
		lease.ResourceVersion = ""
	}
	_, err = k.write(ctx, pipeline.Create, coordinationv1.GroupName, "leases", lease)
	return err
}

// publish makes the Endpoints and the EndpointSlice name every live server but the one without.
func (k *Keeper) publish(ctx context.Context, without string) error {
	sel := labels.SelectorFromSet(labels.Set{identityLabel: identityValue})
	leases, err := k.cfg.Pipeline.Select(ctx, coordinationv1.GroupName, "leases", watchcache.Query{Namespace: metav1.NamespaceSystem, Labels: sel}, true)
	if err != nil {
		return err
	}
	servers := live(leases, k.cfg.Now(), without)
	if err := k.publishSlice(ctx, endpointSlice(servers)); err != nil {
		return err
	}
	return k.publishEndpoints(ctx, endpoints(servers))
}

func (k *Keeper) publishSlice(ctx context.Context, slice *discoveryv1.EndpointSlice) error {
	old, ok, err := k.cfg.Pipeline.Object(ctx, discoveryv1.GroupName, "endpointslices", slice.Namespace, slice.Name, false)
	if err != nil {
		return err
	}
	if !ok {
		return k.ensure(ctx, discoveryv1.GroupName, "endpointslices", slice)
	}
	have := old.(*discoveryv1.EndpointSlice)
	if equality.Semantic.DeepEqual(have.Endpoints, slice.Endpoints) && equality.Semantic.DeepEqual(have.Ports, slice.Ports) {
		return nil
	}
	slice.ResourceVersion = have.ResourceVersion
	return k.update(ctx, discoveryv1.GroupName, "endpointslices", slice)
}

func (k *Keeper) publishEndpoints(ctx context.Context, e *corev1.Endpoints) error {
	old, ok, err := k.cfg.Pipeline.Object(ctx, "", "endpoints", e.Namespace, e.Name, false)
	if err != nil {
		return err
	}
	if !ok {
		return k.ensure(ctx, "", "endpoints", e)
	}
	have := old.(*corev1.Endpoints)
	if equality.Semantic.DeepEqual(have.Subsets, e.Subsets) {
		return nil
	}
	e.ResourceVersion = have.ResourceVersion
	return k.update(ctx, "", "endpoints", e)
}

// update writes what all servers write alike: if another one was faster the next round looks again.
func (k *Keeper) update(ctx context.Context, group, plural string, obj registry.Object) error {
	_, err := k.write(ctx, pipeline.Update, group, plural, obj)
	if apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// server is where one API server can be reached.
type server struct {
	address string
	port    int32
}

// live returns the servers whose Leases are not expired, in order.
func live(leases []registry.Object, now time.Time, without string) []server {
	var out []server
	for _, obj := range leases {
		l := obj.(*coordinationv1.Lease)
		if l.Name == without || l.Spec.RenewTime == nil || l.Spec.LeaseDurationSeconds == nil {
			continue
		}
		if now.After(l.Spec.RenewTime.Add(time.Duration(*l.Spec.LeaseDurationSeconds) * time.Second)) {
			continue
		}
		// A server that is only reachable on its own host is no endpoint for others.
		if s, ok := parseServer(l.Annotations[addressNote]); ok && !net.ParseIP(s.address).IsLoopback() && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b server) int {
		if a.address != b.address {
			return strings.Compare(a.address, b.address)
		}
		return int(a.port - b.port)
	})
	return out
}

func parseServer(note string) (server, bool) {
	address, number, ok := strings.Cut(note, " ")
	port, err := strconv.ParseInt(number, 10, 32)
	return server{address, int32(port)}, ok && err == nil
}

// endpointSlice is the slice of default/kubernetes. Servers on different ports do not share a slice's ports, so the port of
// the first counts; servers of one cluster use one port.
func endpointSlice(servers []server) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceDefault, Name: "kubernetes", Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{},
	}
	for _, srv := range servers {
		if a, err := netip.ParseAddr(srv.address); err == nil && a.Is6() {
			s.AddressType = discoveryv1.AddressTypeIPv6
		}
		ready := true
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{srv.address}, Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready},
		})
		if len(s.Ports) == 0 {
			name, protocol, port := "https", corev1.ProtocolTCP, srv.port
			s.Ports = []discoveryv1.EndpointPort{{Name: &name, Protocol: &protocol, Port: &port}}
		}
	}
	return s
}

// endpoints is the same in the older form; controllers are told not to mirror it into a second slice.
func endpoints(servers []server) *corev1.Endpoints {
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{
		Namespace: metav1.NamespaceDefault, Name: "kubernetes", Labels: map[string]string{discoveryv1.LabelSkipMirror: "true"},
	}}
	if len(servers) == 0 {
		return e
	}
	subset := corev1.EndpointSubset{Ports: []corev1.EndpointPort{{Name: "https", Protocol: corev1.ProtocolTCP, Port: servers[0].port}}}
	for _, srv := range servers {
		subset.Addresses = append(subset.Addresses, corev1.EndpointAddress{IP: srv.address})
	}
	e.Subsets = []corev1.EndpointSubset{subset}
	return e
}
