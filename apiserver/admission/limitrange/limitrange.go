// Package limitrange gives containers the requests and limits that their namespace's LimitRanges have for those that name none, and holds
// containers, pods and claims to the ranges' bounds (https://kubernetes.io/docs/concepts/policy/limit-range/).
//
// Default and Check are pure; Plugin is the shell around them.
package limitrange

import (
	"context"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/admission"
)

// Plugin enforces LimitRanges.
func Plugin(reader admission.Reader) admission.Plugin {
	p := ranges{reader}
	return admission.Plugin{Name: "LimitRanger", Obeys: []schema.GroupResource{{Resource: "limitranges"}}, Mutate: p.mutate, Validate: p.validate}
}

type ranges struct{ reader admission.Reader }

// of returns the ranges of the write's namespace, if it is one that ranges have to do with.
func (p ranges) of(ctx context.Context, a *admission.Attributes) ([]*corev1.LimitRange, error) {
	if a.Resource.Kind.Group != "" || a.Operation == admission.Delete {
		return nil, nil
	}
	switch {
	case a.Resource.Plural == "pods" && (a.Operation == admission.Create && a.Subresource == "" || a.Subresource == "resize"):
	case a.Resource.Plural == "persistentvolumeclaims" && a.Subresource == "":
	default:
		return nil, nil
	}
	if all, ok := p.reader.Collection("", "limitranges"); !ok || all.Empty() {
		return nil, nil
	}
	if a.Operation == admission.Update && a.Object.GetDeletionTimestamp() != nil {
		return nil, nil // what is going away is not held back by rules that came later
	}
	objects, err := p.reader.Objects(ctx, "", "limitranges", a.Namespace)
	if err != nil {
		return nil, err
	}
	list := make([]*corev1.LimitRange, len(objects))
	for i, obj := range objects {
		list[i] = obj.(*corev1.LimitRange)
	}
	return list, nil
}

func (p ranges) mutate(ctx context.Context, a *admission.Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || a.Operation != admission.Create {
		return nil
	}
	list, err := p.of(ctx, a)
	if err != nil {
		return err
	}
	for _, r := range list {
		Default(pod, r)
	}
	return nil
}

func (p ranges) validate(ctx context.Context, a *admission.Attributes) error {
	list, err := p.of(ctx, a)
	if err != nil {
		return err
	}
	for _, r := range list {
		if err := Check(a.Object, r); err != nil {
			return apierrors.NewForbidden(schema.GroupResource{Resource: a.Resource.Plural}, a.ObjectName(), err)
		}
	}
	return nil
}

// setAnnotation tells what Default has set.
const setAnnotation = "kubernetes.io/limit-ranger"

// Default sets the requests and limits that a pod's containers leave open and a range has values for.
func Default(pod *corev1.Pod, r *corev1.LimitRange) {
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	for i := range r.Spec.Limits {
		if l := &r.Spec.Limits[i]; l.Type == corev1.LimitTypeContainer {
			maps.Copy(requests, l.DefaultRequest)
			maps.Copy(limits, l.Default)
		}
	}
	var set []string
	for _, group := range []struct {
		what string
		list []corev1.Container
	}{{"container", pod.Spec.Containers}, {"init container", pod.Spec.InitContainers}} {
		for i := range group.list {
			c := &group.list[i]
			if names := fill(&c.Resources.Requests, requests); len(names) > 0 {
				set = append(set, strings.Join(names, ", ")+" request for "+group.what+" "+c.Name)
			}
			if names := fill(&c.Resources.Limits, limits); len(names) > 0 {
				set = append(set, strings.Join(names, ", ")+" limit for "+group.what+" "+c.Name)
			}
		}
	}
	if len(set) == 0 {
		return
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[setAnnotation] = "LimitRanger plugin set: " + strings.Join(set, "; ")
}

// fill adds what a list lacks and returns the names, sorted.
func fill(list *corev1.ResourceList, from corev1.ResourceList) []string {
	var added []string
	for _, name := range slices.Sorted(maps.Keys(from)) {
		if _, ok := (*list)[name]; ok {
			continue
		}
		if *list == nil {
			*list = corev1.ResourceList{}
		}
		(*list)[name] = from[name].DeepCopy()
		added = append(added, string(name))
	}
	return added
}
