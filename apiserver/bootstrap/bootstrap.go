// Package bootstrap makes the objects that every cluster has, and keeps them: the namespaces default, kube-system, kube-public
// and kube-node-lease, the two PriorityClasses of the system, the default RBAC roles, the ServiceCIDR kubernetes,
// and the Service default/kubernetes with Endpoints and an EndpointSlice that name every live API server.
//
// Each API server holds a Lease in kube-system that says where it can be reached and is renewed while it runs; all of
// them write the same Endpoints and EndpointSlice, a pure function of the Leases that are not expired.
package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"

	"bareboat.dev/apiserver/authz"
	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
)

// Config is what a Keeper is made of.
type Config struct {
	Pipeline *pipeline.Pipeline
	// Identity names this API server among all, for its Lease.
	Identity string
	// Address and Port are where others reach this server.
	Address string
	Port    int32
	// ServiceIP is the cluster IP of default/kubernetes.
	ServiceIP string
	// ServiceCIDRs are the networks that cluster IPs are taken from; they are shown as the ServiceCIDR "kubernetes".
	ServiceCIDRs []netip.Prefix
	Now          func() time.Time
	Log          *slog.Logger
}

const (
	// renewEvery and leaseSeconds: a server that died is taken out of the EndpointSlice within leaseSeconds; two renewals may
	// fail before that.
	renewEvery   = 5 * time.Second
	leaseSeconds = 15
	// retryEvery is the pause after a failure.
	retryEvery = time.Second
	// leaveTimeout bounds how long a stopping server tries to take itself out.
	leaveTimeout = 2 * time.Second
)

// Keeper makes and keeps the objects.
type Keeper struct{ cfg Config }

// New returns a Keeper that has done nothing yet.
func New(cfg Config) *Keeper { return &Keeper{cfg} }

// Once makes what is missing. It is safe to call from several servers at once.
func (k *Keeper) Once(ctx context.Context) error {
	for _, ns := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease} {
		if err := k.ensure(ctx, "", "namespaces", &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}); err != nil {
			return err
		}
	}
	for _, class := range priorityClasses() {
		if err := k.ensure(ctx, schedulingv1.GroupName, "priorityclasses", class); err != nil {
			return err
		}
	}
	if err := k.policy(ctx, authz.Defaults()); err != nil {
		return err
	}
	if err := k.ensure(ctx, "", "services", k.service()); err != nil {
		return err
	}
	if err := k.serviceCIDR(ctx); err != nil {
		return err
	}
	return k.renew(ctx)
}

// Run keeps the server's Lease and the EndpointSlice until ctx ends, and then takes the server out of both.
func (k *Keeper) Run(ctx context.Context) error {
	wait := renewEvery
	for {
		select {
		case <-ctx.Done():
			leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
			defer cancel()
			if err := k.leave(leave); err != nil {
				k.cfg.Log.Warn("leaving the kubernetes service failed", "error", err)
			}
			return nil
		case <-time.After(wait):
		}
		wait = renewEvery
		if err := k.renew(ctx); err != nil && ctx.Err() == nil {
			k.cfg.Log.Warn("renewing the API server's lease failed", "error", err)
			wait = retryEvery
		}
	}
}

func (k *Keeper) service() *corev1.Service {
	policy := corev1.IPFamilyPolicySingleStack
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceDefault, Name: "kubernetes", Labels: map[string]string{"component": "apiserver", "provider": "kubernetes"},
		},
		Spec: corev1.ServiceSpec{
			ClusterIP: k.cfg.ServiceIP, ClusterIPs: []string{k.cfg.ServiceIP}, IPFamilyPolicy: &policy, Type: corev1.ServiceTypeClusterIP,
			SessionAffinity: corev1.ServiceAffinityNone,
			Ports:           []corev1.ServicePort{{Name: "https", Protocol: corev1.ProtocolTCP, Port: 443, TargetPort: intstr.FromInt32(k.cfg.Port)}},
		},
	}
}

// priorityClasses are the two that the system's own pods use.
func priorityClasses() []*schedulingv1.PriorityClass {
	return []*schedulingv1.PriorityClass{
		{ObjectMeta: metav1.ObjectMeta{Name: "system-node-critical"}, Value: 2_000_001_000, Description: "Used for system critical pods that must not be moved from their current node."},
		{ObjectMeta: metav1.ObjectMeta{Name: "system-cluster-critical"}, Value: 2_000_000_000, Description: "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."},
	}
}

// ensure creates an object unless it exists.
func (k *Keeper) ensure(ctx context.Context, group, plural string, obj registry.Object) error {
	_, err := k.write(ctx, pipeline.Create, group, plural, obj)
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating %s %s: %w", plural, obj.GetName(), err)
	}
	return nil
}

func (k *Keeper) write(ctx context.Context, verb pipeline.Verb, group, plural string, obj registry.Object) (*pipeline.Result, error) {
	return k.writePart(ctx, verb, group, plural, "", obj)
}

func (k *Keeper) writePart(ctx context.Context, verb pipeline.Verb, group, plural, subresource string, obj registry.Object) (*pipeline.Result, error) {
	res, ok := k.cfg.Pipeline.Set().Lookup(group, "", plural)
	if !ok {
		return nil, errors.New("not served")
	}
	raw, err := obj.Marshal()
	if err != nil {
		return nil, err
	}
	r := request(verb, res.Kind, plural, obj.GetNamespace(), obj.GetName())
	r.Subresource = subresource
	r.Body = pipeline.Body{ContentType: pipeline.Raw, Kind: res.Kind, Data: raw}
	return k.cfg.Pipeline.Do(ctx, r)
}

func request(verb pipeline.Verb, kind schema.GroupVersionKind, plural, namespace, name string) *pipeline.Request {
	return &pipeline.Request{
		Verb: verb, Caller: pipeline.System(),
		Ref: pipeline.Ref{Group: kind.Group, Version: kind.Version, Resource: plural, Namespace: namespace, Name: name},
	}
}
