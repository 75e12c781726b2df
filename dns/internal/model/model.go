// Package model is a small working cluster in memory, to ask a zone about.
package model

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"bareboat.dev/dns/zone"
)

// Cluster implements zone.Source.
type Cluster struct {
	namespaces map[string]bool
	services   map[string]*corev1.Service
	slices     map[string][]*discoveryv1.EndpointSlice
}

// New makes a cluster with these namespaces.
func New(namespaces ...string) *Cluster {
	c := &Cluster{map[string]bool{}, map[string]*corev1.Service{}, map[string][]*discoveryv1.EndpointSlice{}}
	for _, n := range namespaces {
		c.namespaces[n] = true
	}
	return c
}

// AddService adds a service. Words are its cluster addresses, or None, and ports as name/PROTOCOL/number.
func (c *Cluster) AddService(namespace, name string, words ...string) {
	s := &corev1.Service{}
	s.Namespace, s.Name, s.Spec.Type = namespace, name, corev1.ServiceTypeClusterIP
	for _, w := range words {
		if strings.Contains(w, "/") {
			n, p, number := port(w)
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: n, Protocol: p, Port: number})
			continue
		}
		s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, w)
		s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	}
	c.services[namespace+"/"+name] = s
}

// AddExternal adds an ExternalName service.
func (c *Cluster) AddExternal(namespace, name, target string) {
	s := &corev1.Service{}
	s.Namespace, s.Name, s.Spec.Type, s.Spec.ExternalName = namespace, name, corev1.ServiceTypeExternalName, target
	c.services[namespace+"/"+name] = s
}

// AddSlice adds an endpoint slice with one port; endpoints are written address[=hostname][,notready].
func (c *Cluster) AddSlice(namespace, service, portWord string, endpoints ...string) {
	key := namespace + "/" + service
	s := &discoveryv1.EndpointSlice{}
	s.Namespace, s.Name = namespace, fmt.Sprintf("%s-%d", service, len(c.slices[key]))
	s.Labels = map[string]string{discoveryv1.LabelServiceName: service}
	n, p, number := port(portWord)
	s.Ports = []discoveryv1.EndpointPort{{Name: &n, Protocol: &p, Port: &number}}
	for _, w := range endpoints {
		w, notReady := strings.CutSuffix(w, ",notready")
		addr, host, named := strings.Cut(w, "=")
		e := discoveryv1.Endpoint{Addresses: []string{addr}}
		ready := !notReady
		e.Conditions.Ready = &ready
		if named {
			e.Hostname = &host
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	c.slices[key] = append(c.slices[key], s)
}

func port(word string) (name string, p corev1.Protocol, number int32) {
	parts := strings.Split(word, "/")
	n, err := strconv.Atoi(parts[2])
	if err != nil {
		panic(err)
	}
	return parts[0], corev1.Protocol(parts[1]), int32(n)
}

func (c *Cluster) find(a netip.Addr, of func(string) []netip.Addr) (keys []string) {
	for key := range c.services {
		for _, b := range of(key) {
			if a == b {
				keys = append(keys, key)
				break
			}
		}
	}
	return keys
}

// ServicesAt implements zone.Source.
func (c *Cluster) ServicesAt(a netip.Addr) (out []*corev1.Service) {
	for _, k := range c.find(a, func(k string) []netip.Addr { return zone.ClusterAddrs(c.services[k]) }) {
		out = append(out, c.services[k])
	}
	return out
}

// SlicesAt implements zone.Source.
func (c *Cluster) SlicesAt(a netip.Addr) (out []*discoveryv1.EndpointSlice) {
	for _, ss := range c.slices {
		for _, s := range ss {
			for _, b := range zone.EndpointAddrs(s) {
				if a == b {
					out = append(out, s)
					break
				}
			}
		}
	}
	return out
}

// NamespaceExists implements zone.Source.
func (c *Cluster) NamespaceExists(name string) bool { return c.namespaces[name] }

// Service implements zone.Source.
func (c *Cluster) Service(namespace, name string) (*corev1.Service, bool) {
	s, ok := c.services[namespace+"/"+name]
	return s, ok
}

// Slices implements zone.Source.
func (c *Cluster) Slices(namespace, service string) []*discoveryv1.EndpointSlice {
	return c.slices[namespace+"/"+service]
}

// Serial implements zone.Source.
func (c *Cluster) Serial() uint32 { return 1 }
