package node

import (
	"context"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
)

const (
	// leaseSeconds is how long a heartbeat counts, and renewEvery how often it is given: four times in that time
	// (upstream's nodeLeaseDurationSeconds and its quarter).
	leaseSeconds = 40
	renewEvery   = leaseSeconds * time.Second / 4
)

// runLease renews the node's lease until ctx ends.
func (m *Manager) runLease(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var lease *coordinationv1.Lease
	wait := client.Backoff{Most: retryEvery}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		next := renewEvery
		var err error
		if lease, err = m.renew(ctx, lease); err != nil {
			if ctx.Err() == nil {
				m.log.Warn("node lease was not renewed", "node", m.c.Name, "error", err)
			}
			lease, next = nil, wait.Next()
		} else {
			wait.Reset()
		}
		timer.Reset(next)
	}
}

// renew renews the lease on the view it was last seen in, and makes it if there is none.
func (m *Manager) renew(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	leases := client.Of(m.client, client.Leases())
	if lease == nil {
		var err error
		lease, err = leases.Get(ctx, corev1.NamespaceNodeLease, m.c.Name)
		if apierrors.IsNotFound(err) {
			return leases.Create(ctx, m.fillLease(&coordinationv1.Lease{}))
		}
		if err != nil {
			return nil, err
		}
	}
	return leases.Update(ctx, m.fillLease(lease.DeepCopy()))
}

func (m *Manager) fillLease(l *coordinationv1.Lease) *coordinationv1.Lease {
	seconds, now := int32(leaseSeconds), metav1.NewMicroTime(time.Now())
	l.Namespace, l.Name = corev1.NamespaceNodeLease, m.c.Name
	l.Spec.HolderIdentity, l.Spec.LeaseDurationSeconds, l.Spec.RenewTime = &m.c.Name, &seconds, &now
	if n := m.known(); n != nil && len(l.OwnerReferences) == 0 {
		l.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: n.UID}}
	}
	return l
}
