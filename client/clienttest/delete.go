package clienttest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/anypb"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// defaultGrace is a pod's grace period if neither it nor the request says otherwise.
const defaultGrace = 30

// Delete implements ResourceService.
func (s *Server) Delete(_ context.Context, req *apiv1.DeleteRequest) (*apiv1.DeleteResponse, error) {
	if err := s.check("Delete", req.GetRef()); err != nil {
		return nil, toGRPC(err)
	}
	k, err := s.kind(req.GetRef())
	if err != nil {
		return nil, toGRPC(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	wire, deleted, err := s.state.delete(k, keyOf(k, req.GetRef()), req.GetOptions())
	return &apiv1.DeleteResponse{Object: wire, Deleted: deleted}, toGRPC(err)
}

// DeleteCollection implements ResourceService.
func (s *Server) DeleteCollection(_ context.Context, req *apiv1.DeleteCollectionRequest) (*apiv1.DeleteCollectionResponse, error) {
	if err := s.check("DeleteCollection", req.GetRef()); err != nil {
		return nil, toGRPC(err)
	}
	l, err := s.list(&apiv1.ListRequest{Ref: req.GetRef(), LabelSelector: req.GetLabelSelector(), FieldSelector: req.GetFieldSelector()})
	if err != nil {
		return nil, toGRPC(err)
	}
	k, err := s.kind(req.GetRef())
	if err != nil {
		return nil, toGRPC(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	resp := &apiv1.DeleteCollectionResponse{}
	for _, r := range l.records {
		_, _, err := s.state.delete(k, objectKey{k.name, client.KeyOf(r.obj)}, req.GetOptions())
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, toGRPC(err)
		}
		resp.Count++
	}
	return resp, nil
}

// delete removes an object, or marks it if it waits for finalizers or its grace period.
func (s *state) delete(k kind, key objectKey, opts *apiv1.DeleteOptions) (wire *anypb.Any, deleted bool, err error) {
	old := s.objects[key]
	if old == nil {
		return nil, false, notFound(k, key.Name)
	}
	if uid := opts.GetUid(); uid != "" && uid != string(old.obj.GetUID()) {
		return nil, false, preconditionFailed(k, key.Name, "UID", uid, string(old.obj.GetUID()))
	}
	if rv := opts.GetResourceVersion(); rv != "" && rv != old.obj.GetResourceVersion() {
		return nil, false, preconditionFailed(k, key.Name, "ResourceVersion", rv, old.obj.GetResourceVersion())
	}
	if opts.GetDryRun() {
		return old.wire, true, nil
	}
	obj := old.obj.DeepCopyObject().(client.Object)
	markDeleted(obj, opts)
	if deletable(obj) {
		_, err := s.put(k, key, nil)
		return old.wire, true, err
	}
	if obj.GetDeletionTimestamp().Equal(old.obj.GetDeletionTimestamp()) && slices.Equal(obj.GetFinalizers(), old.obj.GetFinalizers()) &&
		sameGrace(obj, old.obj) {
		return old.wire, false, nil
	}
	r, err := s.put(k, key, obj)
	if err != nil {
		return nil, false, err
	}
	return r.wire, false, nil
}

func preconditionFailed(k kind, name, what, want, have string) error {
	return apierrors.NewConflict(groupResource(k), name,
		fmt.Errorf("Precondition failed: %s in precondition: %s, %s in object meta: %s", what, want, what, have))
}

func sameGrace(a, b client.Object) bool {
	x, y := a.GetDeletionGracePeriodSeconds(), b.GetDeletionGracePeriodSeconds()
	return (x == nil) == (y == nil) && (x == nil || *x == *y)
}

// markDeleted sets the deletion's time, grace and finalizers. A second deletion can only shorten the grace.
func markDeleted(obj client.Object, opts *apiv1.DeleteOptions) {
	grace := gracePeriod(obj, opts)
	if prev := obj.GetDeletionGracePeriodSeconds(); prev == nil || grace < *prev {
		at := metav1.NewTime(time.Now().Add(time.Duration(grace) * time.Second).Truncate(time.Second))
		obj.SetDeletionTimestamp(&at)
		obj.SetDeletionGracePeriodSeconds(&grace)
	}
	finalizers := slices.Clone(obj.GetFinalizers())
	switch opts.GetPropagation() {
	case apiv1.Propagation_PROPAGATION_FOREGROUND:
		finalizers = addFinalizer(finalizers, metav1.FinalizerDeleteDependents)
	case apiv1.Propagation_PROPAGATION_ORPHAN:
		finalizers = addFinalizer(finalizers, metav1.FinalizerOrphanDependents)
	}
	obj.SetFinalizers(finalizers)
	if ns, ok := obj.(*corev1.Namespace); ok {
		ns.Status.Phase = corev1.NamespaceTerminating
	}
}

func addFinalizer(finalizers []string, name string) []string {
	if slices.Contains(finalizers, name) {
		return finalizers
	}
	return append(finalizers, name)
}

// gracePeriod is how many seconds a deletion waits: only a bound pod that has not finished does.
func gracePeriod(obj client.Object, opts *apiv1.DeleteOptions) int64 {
	pod, ok := obj.(*corev1.Pod)
	if !ok || pod.Spec.NodeName == "" || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return 0
	}
	switch {
	case opts.GetGracePeriodSeconds() != nil:
		return opts.GetGracePeriodSeconds().GetValue()
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		return *pod.Spec.TerminationGracePeriodSeconds
	}
	return defaultGrace
}
