package server

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/apiserver/registry"
)

// componentStatuses says how the cluster's parts are: the store by asking it, the others by the lease that their leader
// renews, since they may run on any host.
func (s *Server) componentStatuses(ctx context.Context) ([]registry.Object, error) {
	_, storeErr := s.cfg.Engine.Current(ctx)
	return []registry.Object{
		componentStatus("controller-manager", s.led(ctx, "kube-controller-manager")),
		componentStatus("etcd-0", storeErr),
		componentStatus("scheduler", s.led(ctx, "kube-scheduler")),
	}, nil
}

func componentStatus(name string, err error) registry.Object {
	c := corev1.ComponentCondition{Type: corev1.ComponentHealthy, Status: corev1.ConditionTrue, Message: "ok"}
	if err != nil {
		c.Status, c.Message = corev1.ConditionFalse, err.Error()
	}
	out := &corev1.ComponentStatus{Conditions: []corev1.ComponentCondition{c}}
	out.Name = name
	return out
}

// led returns why a component has no leader at work, or nil.
func (s *Server) led(ctx context.Context, name string) error {
	obj, found, err := s.pipeline.Object(ctx, coordinationv1.GroupName, "leases", "kube-system", name, true)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("lease kube-system/%s not found", name)
	}
	l := obj.(*coordinationv1.Lease).Spec
	if l.HolderIdentity == nil || *l.HolderIdentity == "" || l.RenewTime == nil || l.LeaseDurationSeconds == nil {
		return fmt.Errorf("nobody holds the lease kube-system/%s", name)
	}
	end := l.RenewTime.Add(time.Duration(*l.LeaseDurationSeconds) * time.Second)
	if now := s.cfg.Now(); now.After(end) {
		return fmt.Errorf("the lease kube-system/%s of %s expired %s ago", name, *l.HolderIdentity, now.Sub(end).Round(time.Second))
	}
	return nil
}
