// Package cluster mirrors what cluster names are answered from, and is the zone's Source.
//
//	m := cluster.New(c, log)
//	go m.Run(ctx)
//	m.Synced() // from then on answers are complete, and stay so while the API is away
package cluster

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/dns/zone"
)

// The indexes of the mirrors.
const (
	byService = "service"
	byAddress = "address"
)

// Mirror is a copy of the cluster's services, endpoint slices and namespaces, without the fields that no answer needs.
type Mirror struct {
	services   *client.Mirror[*corev1.Service]
	slices     *client.Mirror[*discoveryv1.EndpointSlice]
	namespaces *client.Mirror[*corev1.Namespace]
	synced     atomic.Bool
}

// New makes a mirror, which is empty until Run.
func New(c *client.Client, log *slog.Logger) *Mirror {
	return &Mirror{
		services: client.NewMirror(c, client.Services(), client.MirrorOptions[*corev1.Service]{
			Log: log, Transform: trimService,
			Indexes: map[string]func(*corev1.Service) []string{byAddress: func(s *corev1.Service) []string {
				return keys(zone.ClusterAddrs(s))
			}},
		}),
		slices: client.NewMirror(c, client.EndpointSlices(), client.MirrorOptions[*discoveryv1.EndpointSlice]{
			Log: log, Transform: trimSlice,
			Indexes: map[string]func(*discoveryv1.EndpointSlice) []string{
				byService: func(s *discoveryv1.EndpointSlice) []string {
					return []string{s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]}
				},
				byAddress: func(s *discoveryv1.EndpointSlice) []string { return keys(zone.EndpointAddrs(s)) },
			},
		}),
		namespaces: client.NewMirror(c, client.Namespaces(), client.MirrorOptions[*corev1.Namespace]{
			Log: log, Transform: func(n *corev1.Namespace) *corev1.Namespace {
				return &corev1.Namespace{ObjectMeta: trimMeta(n.ObjectMeta)}
			},
		}),
	}
}

func keys(addrs []netip.Addr) []string {
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = a.String()
	}
	return out
}

func trimMeta(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion}
}

func trimService(s *corev1.Service) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: trimMeta(s.ObjectMeta),
		Spec: corev1.ServiceSpec{
			Type: s.Spec.Type, ClusterIP: s.Spec.ClusterIP, ClusterIPs: s.Spec.ClusterIPs, Ports: s.Spec.Ports,
			ExternalName: s.Spec.ExternalName,
		},
	}
}

func trimSlice(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{ObjectMeta: trimMeta(s.ObjectMeta), AddressType: s.AddressType, Ports: s.Ports}
	out.Labels = map[string]string{discoveryv1.LabelServiceName: s.Labels[discoveryv1.LabelServiceName]}
	for _, e := range s.Endpoints {
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
			Addresses: e.Addresses, Hostname: e.Hostname, Conditions: discoveryv1.EndpointConditions{Ready: e.Conditions.Ready},
		})
	}
	return out
}

// Run mirrors until ctx ends.
func (m *Mirror) Run(ctx context.Context) error {
	return client.RunAll(ctx, m.services.Run, m.slices.Run, m.namespaces.Run, func(ctx context.Context) error {
		if m.WaitSynced(ctx) == nil {
			m.synced.Store(true)
		}
		return nil
	})
}

// WaitSynced waits until everything has been seen once.
func (m *Mirror) WaitSynced(ctx context.Context) error {
	for _, wait := range []func(context.Context) error{m.services.WaitSynced, m.slices.WaitSynced, m.namespaces.WaitSynced} {
		if err := wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Synced says whether everything has been seen once.
func (m *Mirror) Synced() bool { return m.synced.Load() }

// Service implements zone.Source.
func (m *Mirror) Service(namespace, name string) (*corev1.Service, bool) {
	return m.services.Get(namespace, name)
}

// Slices implements zone.Source.
func (m *Mirror) Slices(namespace, service string) []*discoveryv1.EndpointSlice {
	return m.slices.ByIndex(byService, namespace+"/"+service)
}

// ServicesAt implements zone.Source.
func (m *Mirror) ServicesAt(a netip.Addr) []*corev1.Service {
	return m.services.ByIndex(byAddress, a.String())
}

// SlicesAt implements zone.Source.
func (m *Mirror) SlicesAt(a netip.Addr) []*discoveryv1.EndpointSlice {
	return m.slices.ByIndex(byAddress, a.String())
}

// NamespaceExists implements zone.Source.
func (m *Mirror) NamespaceExists(name string) bool {
	_, ok := m.namespaces.Get("", name)
	return ok
}

// Serial implements zone.Source: the newest revision seen. Zone transfers, for which serials are made, do not exist here.
func (m *Mirror) Serial() uint32 {
	return uint32(max(m.services.Revision(), m.slices.Revision(), m.namespaces.Revision()))
}
