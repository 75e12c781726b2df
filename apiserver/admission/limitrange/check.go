package limitrange

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	podresource "k8s.io/component-helpers/resource"

	"bareboat.dev/apiserver/registry"
)

// Check holds a pod or a claim to a range and returns, as one error, everything that is out of bounds.
func Check(obj registry.Object, r *corev1.LimitRange) error {
	var errs []error
	for i := range r.Spec.Limits {
		l := &r.Spec.Limits[i]
		switch o := obj.(type) {
		case *corev1.Pod:
			errs = append(errs, checkPod(o, l)...)
		case *corev1.PersistentVolumeClaim:
			if l.Type == corev1.LimitTypePersistentVolumeClaim {
				errs = append(errs, checkClaim(o, l)...)
			}
		}
	}
	return utilerrors.NewAggregate(errs)
}

func checkPod(pod *corev1.Pod, l *corev1.LimitRangeItem) (errs []error) {
	switch l.Type {
	case corev1.LimitTypeContainer:
		for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
			for i := range list {
				errs = append(errs, checkBounds(l, list[i].Resources.Requests, list[i].Resources.Limits)...)
			}
		}
	case corev1.LimitTypePod:
		options := podresource.PodResourcesOptions{}
		errs = checkBounds(l, podresource.PodRequests(pod, options), podresource.PodLimits(pod, options))
	}
	return errs
}

// bound is one bound of one resource, and what is held to it; nil amounts are unset.
type bound struct {
	name           corev1.ResourceName
	of             corev1.LimitType
	value          resource.Quantity
	request, limit *resource.Quantity
}

func (b bound) errorf(format string, args ...any) error {
	return fmt.Errorf(format, append([]any{b.name, b.of, b.value.String()}, args...)...)
}

func checkBounds(l *corev1.LimitRangeItem, requests, limits corev1.ResourceList) (errs []error) {
	each := func(list corev1.ResourceList, check func(bound) error) {
		for _, name := range slices.Sorted(maps.Keys(list)) {
			if err := check(bound{name, l.Type, list[name], amount(requests, name), amount(limits, name)}); err != nil {
				errs = append(errs, err)
			}
		}
	}
	each(l.Min, checkMin)
	each(l.Max, checkMax)
	each(l.MaxLimitRequestRatio, checkRatio)
	return errs
}

func amount(list corev1.ResourceList, name corev1.ResourceName) *resource.Quantity {
	if q, ok := list[name]; ok {
		return &q
	}
	return nil
}

func checkMin(b bound) error {
	switch {
	case b.request == nil:
		return b.errorf("minimum %s usage per %s is %s.  No request is specified")
	case b.request.Cmp(b.value) < 0:
		return b.errorf("minimum %s usage per %s is %s, but request is %s", b.request)
	case b.limit != nil && b.limit.Cmp(b.value) < 0:
		return b.errorf("minimum %s usage per %s is %s, but limit is %s", b.limit)
	}
	return nil
}

func checkMax(b bound) error {
	switch {
	case b.limit == nil:
		return b.errorf("maximum %s usage per %s is %s.  No limit is specified")
	case b.limit.Cmp(b.value) > 0:
		return b.errorf("maximum %s usage per %s is %s, but limit is %s", b.limit)
	case b.request != nil && b.request.Cmp(b.value) > 0:
		return b.errorf("maximum %s usage per %s is %s, but request is %s", b.request)
	}
	return nil
}

func checkRatio(b bound) error {
	switch {
	case b.request == nil || b.request.IsZero():
		return b.errorf("%s max limit to request ratio per %s is %s, but no request is specified or request is 0")
	case b.limit == nil || b.limit.IsZero():
		return b.errorf("%s max limit to request ratio per %s is %s, but no limit is specified or limit is 0")
	}
	if ratio := b.limit.AsApproximateFloat64() / b.request.AsApproximateFloat64(); ratio > b.value.AsApproximateFloat64() {
		return b.errorf("%s max limit to request ratio per %s is %s, but provided ratio is %f", ratio)
	}
	return nil
}

// checkClaim: claims have requests only, so their greatest is held against the request.
func checkClaim(c *corev1.PersistentVolumeClaim, l *corev1.LimitRangeItem) []error {
	requests := c.Spec.Resources.Requests
	errs := checkBounds(&corev1.LimitRangeItem{Type: l.Type, Min: l.Min}, requests, nil)
	for _, name := range slices.Sorted(maps.Keys(l.Max)) {
		b := bound{name, l.Type, l.Max[name], amount(requests, name), nil}
		switch {
		case b.request == nil:
			errs = append(errs, b.errorf("maximum %s usage per %s is %s.  No request is specified"))
		case b.request.Cmp(b.value) > 0:
			errs = append(errs, b.errorf("maximum %s usage per %s is %s, but request is %s", b.request))
		}
	}
	return errs
}
