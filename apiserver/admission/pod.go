package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// defaultServiceAccount is what pods run as that name nothing else.
const defaultServiceAccount = "default"

// newPod returns the pod that a write creates, if it creates one.
func newPod(a *Attributes) (*corev1.Pod, bool) {
	if a.Operation != Create || !a.Is("", "pods") {
		return nil, false
	}
	pod, ok := a.Object.(*corev1.Pod)
	return pod, ok
}

// isMirror reports whether the pod mirrors a static pod of a node.
func isMirror(pod *corev1.Pod) bool {
	_, ok := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return ok
}

// DefaultTolerationSeconds lets pods stay 300 s on a node that is not ready or cannot be reached, unless they say otherwise.
func DefaultTolerationSeconds() Plugin {
	const seconds = 300
	mutate := func(_ context.Context, a *Attributes) error {
		if a.Operation == Delete || !a.Is("", "pods") {
			return nil
		}
		pod, ok := a.Object.(*corev1.Pod)
		if !ok {
			return nil
		}
		for _, taint := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
			if !toleratesNoExecute(pod, taint) {
				s := int64(seconds)
				pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
					Key: taint, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &s,
				})
			}
		}
		return nil
	}
	return Plugin{Name: "DefaultTolerationSeconds", Mutate: mutate}
}

func toleratesNoExecute(pod *corev1.Pod, key string) bool {
	for i := range pod.Spec.Tolerations {
		t := &pod.Spec.Tolerations[i]
		if (t.Key == key || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "") {
			return true
		}
	}
	return false
}

// Priorities of the two classes that exist in every cluster.
const (
	nodeCritical    = 2_000_001_000
	clusterCritical = 2_000_000_000
)

// PriorityLookup returns a PriorityClass's value and preemption policy.
type PriorityLookup func(ctx context.Context, name string) (value int32, policy corev1.PreemptionPolicy, ok bool, err error)

// Priority turns a pod's priorityClassName into its priority. Lookup finds classes beyond the two of the system; default
// returns the name of the global default class, empty if there is none. Both may be nil while there are no PriorityClasses.
func Priority(lookup PriorityLookup, byDefault func(ctx context.Context) (string, error)) Plugin {
	resolve := func(ctx context.Context, name string) (int32, corev1.PreemptionPolicy, bool, error) {
		switch name {
		case "system-node-critical":
			return nodeCritical, corev1.PreemptLowerPriority, true, nil
		case "system-cluster-critical":
			return clusterCritical, corev1.PreemptLowerPriority, true, nil
		}
		if lookup == nil {
			return 0, "", false, nil
		}
		return lookup(ctx, name)
	}
	mutate := func(ctx context.Context, a *Attributes) error {
		keepPriority(a)
		pod, ok := newPod(a)
		if !ok {
			return nil
		}
		name := pod.Spec.PriorityClassName
		if name == "" && byDefault != nil {
			var err error
			if name, err = byDefault(ctx); err != nil {
				return err
			}
		}
		value, policy := int32(0), corev1.PreemptLowerPriority
		if name != "" {
			var err error
			if value, policy, ok, err = resolve(ctx, name); err != nil {
				return err
			} else if !ok {
				return apierrors.NewForbidden(resource(a), pod.Name, fmt.Errorf("no PriorityClass with name %v was found", name))
			}
		}
		pod.Spec.PriorityClassName = name
		return setPriority(a, pod, value, policy)
	}
	return Plugin{Name: "Priority", Mutate: mutate}
}

// keepPriority gives an update that leaves them out the priority and the policy that the pod was created with.
func keepPriority(a *Attributes) {
	if a.Operation != Update || !a.Is("", "pods") {
		return
	}
	pod, ok := a.Object.(*corev1.Pod)
	old, okOld := a.Old.(*corev1.Pod)
	if !ok || !okOld {
		return
	}
	if pod.Spec.Priority == nil {
		pod.Spec.Priority = old.Spec.Priority
	}
	if pod.Spec.PreemptionPolicy == nil {
		pod.Spec.PreemptionPolicy = old.Spec.PreemptionPolicy
	}
}

// PriorityClasses looks classes up among the stored ones.
func PriorityClasses(reader Reader) (lookup PriorityLookup, byDefault func(ctx context.Context) (string, error)) {
	lookup = func(ctx context.Context, name string) (int32, corev1.PreemptionPolicy, bool, error) {
		for _, fresh := range []bool{false, true} {
			obj, ok, err := reader.Object(ctx, schedulingv1.GroupName, "priorityclasses", "", name, fresh)
			if err != nil {
				return 0, "", false, err
			}
			if class, is := obj.(*schedulingv1.PriorityClass); ok && is {
				policy := corev1.PreemptLowerPriority
				if class.PreemptionPolicy != nil {
					policy = *class.PreemptionPolicy
				}
				return class.Value, policy, true, nil
			}
		}
		return 0, "", false, nil
	}
	byDefault = func(ctx context.Context) (string, error) {
		objs, err := reader.Objects(ctx, schedulingv1.GroupName, "priorityclasses", "")
		if err != nil {
			return "", err
		}
		// Of several defaults, which only a race can make, the lowest counts, as in Kubernetes.
		var lowest *schedulingv1.PriorityClass
		for _, obj := range objs {
			if c, ok := obj.(*schedulingv1.PriorityClass); ok && c.GlobalDefault && (lowest == nil || c.Value < lowest.Value) {
				lowest = c
			}
		}
		if lowest == nil {
			return "", nil
		}
		return lowest.Name, nil
	}
	return lookup, byDefault
}

func setPriority(a *Attributes, pod *corev1.Pod, value int32, policy corev1.PreemptionPolicy) error {
	if pod.Spec.Priority != nil && *pod.Spec.Priority != value {
		return apierrors.NewForbidden(resource(a), pod.Name, fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *pod.Spec.Priority, value))
	}
	if pod.Spec.PreemptionPolicy != nil && *pod.Spec.PreemptionPolicy != policy {
		return apierrors.NewForbidden(resource(a), pod.Name, fmt.Errorf("the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *pod.Spec.PreemptionPolicy, policy))
	}
	pod.Spec.Priority, pod.Spec.PreemptionPolicy = &value, &policy
	return nil
}
