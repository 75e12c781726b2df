// Package quota keeps namespaces within their ResourceQuotas (https://kubernetes.io/docs/concepts/policy/resource-quotas/).
//
// Check is pure: quotas and a write give the quotas' new usage, or the reason to refuse. Plugin is the shell around it. It has the
// new usage committed in one transaction with the object that it counts, on condition that nobody has changed the quota meanwhile: usage
// is never exceeded, however many writers and servers there are, and a write that fails has used nothing up.
//
// What is freed by deletions is for the quota controller to find out, by the rules of usage.go.
package quota

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/registry"
)

// Write is what Check judges.
type Write struct {
	Resource schema.GroupResource
	// Subresource through which an object is changed; empty is the object itself.
	Subresource string
	Object      registry.Object
	// Old is nil if the write creates the object.
	Old registry.Object
}

// Counts reports whether quotas may have to do with the write at all.
func (w *Write) Counts() bool {
	switch {
	case w.Object == nil:
		return false
	case w.Old == nil:
		return w.Subresource == ""
	}
	switch w.Resource {
	case pods:
		return w.Subresource == "resize" || w.Subresource == "" && terminating(w.Object) != terminating(w.Old)
	case services:
		return w.Subresource == ""
	case claims:
		return w.Subresource == "" || w.Subresource == "status"
	}
	return false
}

// Check returns copies, with their new usage, of the quotas that the write counts against, or says why it must not be. Now is for pods
// whose grace period is over.
func Check(quotas []*corev1.ResourceQuota, w *Write, now time.Time) ([]*corev1.ResourceQuota, error) {
	if !w.Counts() {
		return nil, nil
	}
	var concerned []*corev1.ResourceQuota
	for _, q := range quotas {
		limited := limitedBy(q, w)
		if len(limited) == 0 || !inScopes(q, w.Object) {
			continue
		}
		if err := demand(w.Object, limited); err != nil {
			return nil, fmt.Errorf("failed quota: %s: %w", q.Name, err)
		}
		if !counted(q, limited) {
			return nil, fmt.Errorf("status unknown for quota: %s, resources: %s", q.Name, names(limited))
		}
		concerned = append(concerned, q)
	}
	if len(concerned) == 0 {
		return nil, nil
	}
	uses := Usage(w.Resource, w.Object, now)
	if bad := negative(uses); len(bad) > 0 {
		return nil, fmt.Errorf("quota usage is negative for resource(s): %s", names(bad))
	}
	return charge(concerned, uses, w, now)
}

// charge adds what the write uses, beyond what the old object did, to each quota.
func charge(quotas []*corev1.ResourceQuota, uses corev1.ResourceList, w *Write, now time.Time) ([]*corev1.ResourceQuota, error) {
	var more corev1.ResourceList
	if w.Old != nil {
		more = beyond(uses, Usage(w.Resource, w.Old, now))
	}
	var charged []*corev1.ResourceQuota
	for _, q := range quotas {
		added := uses
		if w.Old != nil && inScopes(q, w.Old) {
			added = more
		}
		added = limitedPart(added, q.Status.Hard)
		if len(added) == 0 {
			continue
		}
		next := q.DeepCopy()
		exceeded := add(next.Status.Used, added, q.Status.Hard)
		if len(exceeded) > 0 && w.Subresource != "status" {
			return nil, fmt.Errorf("exceeded quota: %s, requested: %s, used: %s, limited: %s",
				q.Name, amounts(added, exceeded), amounts(q.Status.Used, exceeded), amounts(q.Status.Hard, exceeded))
		}
		charged = append(charged, next)
	}
	return charged, nil
}

// counted reports whether the quota's status has a number for each limited resource.
func counted(q *corev1.ResourceQuota, limited []corev1.ResourceName) bool {
	return !slices.ContainsFunc(limited, func(n corev1.ResourceName) bool { _, ok := q.Status.Used[n]; return !ok })
}

// limitedPart is what of a usage a quota limits and is not zero.
func limitedPart(uses, hard corev1.ResourceList) corev1.ResourceList {
	part := corev1.ResourceList{}
	for name, q := range uses {
		if _, ok := hard[name]; ok && !q.IsZero() {
			part[name] = q
		}
	}
	return part
}

// add adds to used and returns what is then beyond hard.
func add(used, added, hard corev1.ResourceList) (exceeded []corev1.ResourceName) {
	for name, q := range added {
		sum := used[name].DeepCopy()
		sum.Add(q)
		used[name] = sum
		if limit := hard[name]; sum.Cmp(limit) > 0 {
			exceeded = append(exceeded, name)
		}
	}
	return exceeded
}

// beyond is by how much is exceeds was.
func beyond(is, was corev1.ResourceList) corev1.ResourceList {
	more := corev1.ResourceList{}
	for name, q := range is {
		rest := q.DeepCopy()
		rest.Sub(was[name])
		if rest.Sign() > 0 {
			more[name] = rest
		}
	}
	return more
}

func negative(list corev1.ResourceList) []corev1.ResourceName {
	var bad []corev1.ResourceName
	for name, q := range list {
		if q.Sign() < 0 {
			bad = append(bad, name)
		}
	}
	return bad
}

// names prints resource names as Kubernetes does.
func names(list []corev1.ResourceName) string {
	var out []string
	for _, n := range list {
		out = append(out, string(n))
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

// amounts prints some amounts of a list as Kubernetes does: "cpu=1,pods=2".
func amounts(list corev1.ResourceList, of []corev1.ResourceName) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(list)) {
		if slices.Contains(of, name) {
			q := list[name]
			out = append(out, string(name)+"="+q.String())
		}
	}
	return strings.Join(out, ",")
}

func count(n int) resource.Quantity { return *resource.NewQuantity(int64(n), resource.DecimalSI) }
