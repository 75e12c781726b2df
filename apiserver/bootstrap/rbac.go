package bootstrap

import (
	"context"
	"slices"

	"golang.org/x/sync/errgroup"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	rbacvalidation "k8s.io/component-helpers/auth/rbac/validation"

	"bareboat.dev/apiserver/authz"
	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
)

// policy stores the default roles and bindings. Like Kubernetes it gives back what is missing in those that exist, unless
// their annotation rbac.authorization.kubernetes.io/autoupdate says false, and takes nothing away.
func (k *Keeper) policy(ctx context.Context, p *authz.Policy) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(policyWriters)
	for _, role := range p.ClusterRoleList {
		group.Go(func() error { return k.reconcile(ctx, "clusterroles", role) })
	}
	for _, binding := range p.ClusterRoleBindingList {
		group.Go(func() error { return k.reconcile(ctx, "clusterrolebindings", binding) })
	}
	for _, role := range p.RoleList {
		group.Go(func() error { return k.ensure(ctx, rbacv1.GroupName, "roles", role) })
	}
	for _, binding := range p.RoleBindingList {
		group.Go(func() error { return k.ensure(ctx, rbacv1.GroupName, "rolebindings", binding) })
	}
	return group.Wait()
}

// policyWriters is how many objects are made at once, so that they share the store's commits: a hundred objects take some
// four of them.
const policyWriters = 32

func (k *Keeper) reconcile(ctx context.Context, plural string, want registry.Object) error {
	for {
		have, ok, err := k.cfg.Pipeline.Object(ctx, rbacv1.GroupName, plural, "", want.GetName(), false)
		if err != nil {
			return err
		}
		if !ok {
			if err := k.ensure(ctx, rbacv1.GroupName, plural, want); err != nil {
				return err
			}
			return nil
		}
		change := merged(have, want)
		if change == nil {
			return nil
		}
		_, err = k.write(ctx, pipeline.Update, rbacv1.GroupName, plural, change)
		if !apierrors.IsConflict(err) {
			return err
		}
	}
}

// merged returns have with what it lacks of want, or nil if it lacks nothing or may not be changed.
func merged(have, want registry.Object) registry.Object {
	if have.GetAnnotations()[rbacv1.AutoUpdateAnnotationKey] == "false" {
		return nil
	}
	switch w := want.(type) {
	case *rbacv1.ClusterRole:
		h := have.(*rbacv1.ClusterRole)
		if ok, missing := rbacvalidation.Covers(h.Rules, w.Rules); !ok {
			c := h.DeepCopy()
			c.Rules = append(c.Rules, missing...)
			return c
		}
	case *rbacv1.ClusterRoleBinding:
		h := have.(*rbacv1.ClusterRoleBinding)
		c := h.DeepCopy()
		for _, s := range w.Subjects {
			if !slices.Contains(c.Subjects, s) {
				c.Subjects = append(c.Subjects, s)
			}
		}
		if !equality.Semantic.DeepEqual(c.Subjects, h.Subjects) {
			return c
		}
	}
	return nil
}
