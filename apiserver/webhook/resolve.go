package webhook

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/registry"
)

// Reader is how the resolver sees services and their endpoints; admission.Reader is one.
type Reader interface {
	Object(ctx context.Context, group, plural, namespace, name string, fresh bool) (obj registry.Object, ok bool, err error)
	Objects(ctx context.Context, group, plural, namespace string) ([]registry.Object, error)
}

// Endpoints resolves a service to one of its ready endpoints, drawn at random. It does not go by the cluster address: an API server
// may run where no proxy does. An ExternalName service resolves to its name.
func Endpoints(reader Reader) Resolver {
	return func(ctx context.Context, namespace, name string, port int32) (string, error) {
		obj, ok, err := reader.Object(ctx, "", "services", namespace, name, false)
		if err == nil && !ok {
			obj, ok, err = reader.Object(ctx, "", "services", namespace, name, true)
		}
		if err != nil {
			return "", err
		}
		if !ok {
			return "", apierrors.NewNotFound(schema.GroupResource{Resource: "services"}, name)
		}
		svc := obj.(*corev1.Service)
		if svc.Spec.Type == corev1.ServiceTypeExternalName {
			return net.JoinHostPort(svc.Spec.ExternalName, strconv.Itoa(int(port))), nil
		}
		portName, ok := portNamed(svc, port)
		if !ok {
			return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", port, name))
		}
		slices, err := reader.Objects(ctx, discoveryv1.GroupName, "endpointslices", namespace)
		if err != nil {
			return "", err
		}
		if all := addresses(slices, name, portName); len(all) > 0 {
			return all[rand.IntN(len(all))], nil
		}
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", name))
	}
}

// portNamed finds the name of a service's TCP port, by which endpoint slices know it.
func portNamed(svc *corev1.Service, port int32) (string, bool) {
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if p.Port == port && (p.Protocol == "" || p.Protocol == corev1.ProtocolTCP) {
			return p.Name, true
		}
	}
	return "", false
}

// addresses are the ready endpoints of a service's port.
func addresses(slices []registry.Object, service, port string) []string {
	var all []string
	for _, obj := range slices {
		s := obj.(*discoveryv1.EndpointSlice)
		number, ok := sliceport(s, port)
		if s.Labels[discoveryv1.LabelServiceName] != service || !ok {
			continue
		}
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if ready := e.Conditions.Ready; (ready == nil || *ready) && len(e.Addresses) > 0 {
				all = append(all, net.JoinHostPort(e.Addresses[0], number))
			}
		}
	}
	return all
}

func sliceport(s *discoveryv1.EndpointSlice, name string) (string, bool) {
	for i := range s.Ports {
		p := &s.Ports[i]
		if (p.Name == nil && name == "" || p.Name != nil && *p.Name == name) && p.Port != nil && (p.Protocol == nil || *p.Protocol == corev1.ProtocolTCP) {
			return strconv.Itoa(int(*p.Port)), true
		}
	}
	return "", false
}
