package admission

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

var (
	errOverhead        = errors.New("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
	errForeignOverhead = errors.New("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
)

// RuntimeClass gives pods what their runtime class says they cost beyond their containers, and where they can run.
func RuntimeClass(reader Reader) Plugin {
	class := func(ctx context.Context, a *Attributes, pod *corev1.Pod) (*nodev1.RuntimeClass, error) {
		name := pod.Spec.RuntimeClassName
		if name == nil {
			return nil, nil
		}
		obj, ok, err := reader.Object(ctx, nodev1.GroupName, "runtimeclasses", "", *name, false)
		if err == nil && !ok {
			obj, ok, err = reader.Object(ctx, nodev1.GroupName, "runtimeclasses", "", *name, true)
		}
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, apierrors.NewForbidden(resource(a), a.ObjectName(), fmt.Errorf("pod rejected: RuntimeClass %q not found", *name))
		}
		return obj.(*nodev1.RuntimeClass), nil
	}
	mutate := func(ctx context.Context, a *Attributes) error {
		pod, ok := newPod(a)
		if !ok {
			return nil
		}
		c, err := class(ctx, a, pod)
		if err != nil || c == nil {
			return err
		}
		if err := setClass(pod, c); err != nil {
			return apierrors.NewForbidden(resource(a), a.ObjectName(), err)
		}
		return nil
	}
	validate := func(ctx context.Context, a *Attributes) error {
		pod, ok := newPod(a)
		if !ok {
			return nil
		}
		c, err := class(ctx, a, pod)
		if err != nil {
			return err
		}
		if err := checkOverhead(pod, c); err != nil {
			return apierrors.NewForbidden(resource(a), a.ObjectName(), err)
		}
		return nil
	}
	return Plugin{Name: "RuntimeClass", Obeys: obeys(nodev1.GroupName, "runtimeclasses"), Mutate: mutate, Validate: validate}
}

// setClass writes a class's overhead and scheduling into a pod.
func setClass(pod *corev1.Pod, c *nodev1.RuntimeClass) error {
	if c.Overhead != nil {
		if pod.Spec.Overhead != nil && !equality.Semantic.DeepEqual(c.Overhead.PodFixed, pod.Spec.Overhead) {
			return errOverhead
		}
		pod.Spec.Overhead = c.Overhead.PodFixed.DeepCopy()
	}
	if c.Scheduling == nil {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(c.Scheduling.NodeSelector)) {
		value := c.Scheduling.NodeSelector[key]
		if has, ok := pod.Spec.NodeSelector[key]; ok && has != value {
			return fmt.Errorf("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", key, value, key, has)
		}
		if pod.Spec.NodeSelector == nil {
			pod.Spec.NodeSelector = map[string]string{}
		}
		pod.Spec.NodeSelector[key] = value
	}
	for _, t := range c.Scheduling.Tolerations {
		if !slices.ContainsFunc(pod.Spec.Tolerations, func(have corev1.Toleration) bool { return equality.Semantic.DeepEqual(have, t) }) {
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, *t.DeepCopy())
		}
	}
	return nil
}

// checkOverhead: a pod has exactly the overhead that its class defines.
func checkOverhead(pod *corev1.Pod, c *nodev1.RuntimeClass) error {
	switch {
	case c != nil && c.Overhead != nil:
		if !equality.Semantic.DeepEqual(c.Overhead.PodFixed, pod.Spec.Overhead) {
			return errOverhead
		}
	case len(pod.Spec.Overhead) > 0:
		return errForeignOverhead
	}
	return nil
}
