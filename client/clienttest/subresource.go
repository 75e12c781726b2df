package clienttest

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/types/known/anypb"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"bareboat.dev/client"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

const (
	statusSuccessTypeURL = statusTypeURL
	scaleTypeURL         = "type.googleapis.com/k8s.io.api.autoscaling.v1.Scale"
)

// bind serves pods/binding as Kubernetes does: the pod must exist, be the one meant, not be under deletion, not be gated and not
// be bound yet.
func (s *Server) bind(k kind, req *apiv1.CreateRequest) (*anypb.Any, error) {
	var binding corev1.Binding
	if err := binding.Unmarshal(req.GetObject().GetValue()); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := keyOf(k, req.GetRef())
	r := s.state.objects[key]
	if r == nil || k.name.resource != "pods" {
		return nil, notFound(k, key.Name)
	}
	pod := r.obj.DeepCopyObject().(*corev1.Pod)
	if err := bindable(k, pod, &binding); err != nil {
		return nil, err
	}
	pod.Spec.NodeName = binding.Target.Name
	setScheduled(pod)
	for key, value := range binding.Annotations {
		metav1.SetMetaDataAnnotation(&pod.ObjectMeta, key, value)
	}
	if !req.GetOptions().GetDryRun() {
		if _, err := s.state.put(k, key, pod); err != nil {
			return nil, err
		}
	}
	return success()
}

func bindable(k kind, pod *corev1.Pod, binding *corev1.Binding) error {
	refuse := func(format string, args ...any) error {
		return apierrors.NewConflict(schema.GroupResource{Resource: "pods/binding"}, pod.Name, fmt.Errorf(format, args...))
	}
	switch {
	case binding.Target.Name == "":
		return apierrors.NewBadRequest("target.name: Required value")
	case binding.UID != "" && binding.UID != pod.UID:
		return preconditionFailed(k, pod.Name, "UID", string(binding.UID), string(pod.UID))
	case pod.DeletionTimestamp != nil:
		return refuse("pod %s is being deleted, cannot be assigned to a host", pod.Name)
	case pod.Spec.NodeName != "":
		return refuse("pod %s is already assigned to node %q", pod.Name, pod.Spec.NodeName)
	case len(pod.Spec.SchedulingGates) > 0:
		return refuse("pod %s has non-empty .spec.schedulingGates", pod.Name)
	}
	return nil
}

func setScheduled(pod *corev1.Pod) {
	cond := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == corev1.PodScheduled {
			pod.Status.Conditions[i] = cond
			return
		}
	}
	pod.Status.Conditions = append(pod.Status.Conditions, cond)
}

func success() (*anypb.Any, error) {
	value, err := (&metav1.Status{Status: metav1.StatusSuccess, Code: 201}).Marshal()
	return &anypb.Any{TypeUrl: statusSuccessTypeURL, Value: value}, err
}

// evict serves pods/eviction as a deletion; it knows no disruption budgets.
func (s *Server) evict(k kind, req *apiv1.CreateRequest) (*anypb.Any, error) {
	var eviction policyv1.Eviction
	if err := eviction.Unmarshal(req.GetObject().GetValue()); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	opts := &apiv1.DeleteOptions{DryRun: req.GetOptions().GetDryRun()}
	if d := eviction.DeleteOptions; d != nil && d.GracePeriodSeconds != nil {
		opts.GracePeriodSeconds = wrapperspb.Int64(*d.GracePeriodSeconds)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, _, err := s.state.delete(k, keyOf(k, req.GetRef()), opts); err != nil {
		return nil, err
	}
	return success()
}

// replicas points at an object's desired replicas and returns its actual ones and selector.
func replicas(obj client.Object) (desired **int32, actual int32, selector *metav1.LabelSelector, err error) {
	switch obj := obj.(type) {
	case *appsv1.Deployment:
		return &obj.Spec.Replicas, obj.Status.Replicas, obj.Spec.Selector, nil
	case *appsv1.ReplicaSet:
		return &obj.Spec.Replicas, obj.Status.Replicas, obj.Spec.Selector, nil
	case *appsv1.StatefulSet:
		return &obj.Spec.Replicas, obj.Status.Replicas, obj.Spec.Selector, nil
	}
	return nil, 0, nil, apierrors.NewNotFound(schema.GroupResource{}, obj.GetName()+"/scale")
}

func getScale(obj client.Object) (*anypb.Any, error) {
	desired, actual, selector, err := replicas(obj)
	if err != nil {
		return nil, err
	}
	scale := &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: obj.GetNamespace(), Name: obj.GetName(), UID: obj.GetUID(),
			ResourceVersion: obj.GetResourceVersion(), CreationTimestamp: obj.GetCreationTimestamp(),
		},
		Status: autoscalingv1.ScaleStatus{Replicas: actual, Selector: metav1.FormatLabelSelector(selector)},
	}
	if *desired != nil {
		scale.Spec.Replicas = **desired
	}
	value, err := scale.Marshal()
	return &anypb.Any{TypeUrl: scaleTypeURL, Value: value}, err
}

func (s *Server) updateScale(k kind, req *apiv1.UpdateRequest) (*anypb.Any, bool, error) {
	var scale autoscalingv1.Scale
	if req.GetObject().GetTypeUrl() != scaleTypeURL {
		return nil, false, apierrors.NewBadRequest("body of scale must be autoscaling/v1 Scale")
	}
	if err := scale.Unmarshal(req.GetObject().GetValue()); err != nil {
		return nil, false, apierrors.NewBadRequest(err.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.state.objects[keyOf(k, req.GetRef())]
	if r == nil {
		return nil, false, notFound(k, req.GetRef().GetName())
	}
	obj := r.obj.DeepCopyObject().(client.Object)
	desired, _, _, err := replicas(obj)
	if err != nil {
		return nil, false, err
	}
	*desired = &scale.Spec.Replicas
	obj.SetResourceVersion(scale.ResourceVersion)
	_, unchanged, err := s.state.update(k, "", obj, req.GetOptions().GetDryRun())
	if err != nil {
		return nil, false, err
	}
	now := s.state.objects[keyOf(k, req.GetRef())]
	if now == nil {
		return nil, false, errors.New("the object is gone")
	}
	wire, err := getScale(now.obj)
	return wire, unchanged, err
}
