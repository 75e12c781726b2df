package bootstrap

import (
	"context"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/pipeline"
)

// serviceCIDR publishes the networks that Services get their addresses from, which are this server's configuration, as the
// ServiceCIDR kubernetes. Like Kubernetes it adds a second network to one that has one, and changes nothing else.
func (k *Keeper) serviceCIDR(ctx context.Context) error {
	if len(k.cfg.ServiceCIDRs) == 0 {
		return nil
	}
	var cidrs []string
	for _, p := range k.cfg.ServiceCIDRs {
		cidrs = append(cidrs, p.String())
	}
	const name, plural = "kubernetes", "servicecidrs"
	err := k.ensure(ctx, networkingv1.GroupName, plural, &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: cidrs}})
	for err == nil {
		have, ok, failed := k.cfg.Pipeline.Object(ctx, networkingv1.GroupName, plural, "", name, true)
		if failed != nil || !ok {
			return failed
		}
		c, subresource := have.(*networkingv1.ServiceCIDR).DeepCopy(), ""
		switch {
		case len(c.Spec.CIDRs) == 1 && len(cidrs) == 2 && c.Spec.CIDRs[0] == cidrs[0]:
			c.Spec.CIDRs = cidrs
		case !slices.Equal(c.Spec.CIDRs, cidrs):
			k.cfg.Log.Warn("the ServiceCIDR kubernetes does not name the networks that this server takes addresses from", "has", c.Spec.CIDRs, "configured", cidrs)
			return nil
		case meta.IsStatusConditionTrue(c.Status.Conditions, networkingv1.ServiceCIDRConditionReady):
			return nil
		default:
			subresource = "status"
			meta.SetStatusCondition(&c.Status.Conditions, metav1.Condition{
				Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue, Message: "Kubernetes default Service CIDR is ready",
				LastTransitionTime: metav1.NewTime(k.cfg.Now()),
			})
		}
		if _, err = k.writePart(ctx, pipeline.Update, networkingv1.GroupName, plural, subresource, c); apierrors.IsConflict(err) {
			err = nil // another server was faster
		}
	}
	return err
}
