package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/apiserver/authz"
	"bareboat.dev/apiserver/registry"
)

// requestAudience is the verb by which a node may have tokens for an audience that none of its pods asks for: on a resource that is called
// as the audience is, and on the service account's name.
const requestAudience = "request-serviceaccounts-token-audience"

// token: a node gets tokens of the pods that run on it, each for one audience that the pod itself or one of its volume drivers asks for
// (https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#node-audience-restriction-for-service-account-tokens).
func (r nodeRestriction) token(ctx context.Context, a *Attributes) error {
	if a.Subresource != "token" {
		return nil
	}
	req, ok := a.Body.(*authenticationv1.TokenRequest)
	if !ok {
		return nil
	}
	ref := req.Spec.BoundObjectRef
	switch {
	case ref == nil || ref.APIVersion != "v1" || ref.Kind != "Pod" || ref.Name == "":
		return r.forbid(a, "node requested token not bound to a pod")
	case ref.UID == "":
		return r.forbid(a, "node requested token with a pod binding without a uid")
	}
	obj, ok, err := r.reader.Object(ctx, "", "pods", a.Namespace, ref.Name, true)
	switch {
	case err != nil:
		return err
	case !ok:
		return apierrors.NewNotFound(corev1.Resource("pods"), ref.Name)
	case ref.UID != obj.GetUID():
		return r.forbid(a, "the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID)
	}
	pod := obj.(*corev1.Pod)
	if pod.Spec.NodeName != r.name {
		return r.forbid(a, "node requested token bound to a pod scheduled on a different node")
	}
	return r.audience(ctx, a, req, pod)
}

// audience: the empty one is the API server's own.
func (r nodeRestriction) audience(ctx context.Context, a *Attributes, req *authenticationv1.TokenRequest, pod *corev1.Pod) error {
	audience := ""
	switch len(req.Spec.Audiences) {
	case 0:
	case 1:
		audience = req.Spec.Audiences[0]
	default:
		return r.forbid(a, "node may only request 0 or 1 audiences")
	}
	found, err := r.asksFor(ctx, pod, audience)
	if err != nil {
		return r.forbid(a, "error validating audience %q: %w", audience, err)
	}
	if found {
		return nil
	}
	d, _, err := r.authorizer.Authorize(ctx, &authz.Attributes{
		User: a.User, Verb: requestAudience, Version: "v1", Resource: audience, Namespace: a.Namespace, Name: a.Name,
	})
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	if d == authz.Allow && audience != "" { // without a resource it is no question about one
		return nil
	}
	return r.forbid(a, "audience %q not found in pod spec volume, %s is not authorized to request tokens for this audience", audience, a.User.Name)
}

// asksFor reports whether one of a pod's volumes asks for tokens for an audience. What cannot be found out counts only if no other does.
func (r nodeRestriction) asksFor(ctx context.Context, pod *corev1.Pod, audience string) (bool, error) {
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool {
			return s.ServiceAccountToken != nil && s.ServiceAccountToken.Audience == audience
		}) {
			return true, nil
		}
		driver, err := r.driver(ctx, pod, v)
		if err != nil {
			errs = append(errs, err)
		}
		if driver == "" {
			continue
		}
		obj, ok, err := r.find(ctx, storagev1.GroupName, "csidrivers", "", driver)
		switch {
		case err != nil:
			errs = append(errs, err)
		case !ok:
			errs = append(errs, fmt.Errorf("csidriver.storage.k8s.io %q not found", driver))
		case slices.ContainsFunc(obj.(*storagev1.CSIDriver).Spec.TokenRequests, func(t storagev1.TokenRequest) bool { return t.Audience == audience }):
			return true, nil
		}
	}
	return false, errors.Join(errs...)
}

// driver is the name of the CSI driver that makes a volume; "" if none does.
func (r nodeRestriction) driver(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) (string, error) {
	claim := ""
	switch {
	case v.CSI != nil:
		return v.CSI.Driver, nil
	case v.PersistentVolumeClaim != nil:
		claim = v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil:
		claim = pod.Name + "-" + v.Name
	default:
		return "", nil
	}
	obj, ok, err := r.find(ctx, "", "persistentvolumeclaims", pod.Namespace, claim)
	if err != nil {
		return "", err
	}
	if !ok {
		return "", fmt.Errorf("persistentvolumeclaim %q not found", claim)
	}
	name := obj.(*corev1.PersistentVolumeClaim).Spec.VolumeName
	if name == "" {
		return "", nil
	}
	if obj, ok, err = r.find(ctx, "", "persistentvolumes", "", name); err != nil {
		return "", err
	}
	if !ok {
		return "", fmt.Errorf("persistentvolume %q not found", name)
	}
	if csi := obj.(*corev1.PersistentVolume).Spec.CSI; csi != nil {
		return csi.Driver, nil
	}
	return "", nil
}

// find asks the store before it says that something is not there.
func (r nodeRestriction) find(ctx context.Context, group, plural, namespace, name string) (obj registry.Object, ok bool, err error) {
	for _, fresh := range []bool{false, true} {
		if obj, ok, err = r.reader.Object(ctx, group, plural, namespace, name, fresh); err != nil || ok {
			break
		}
	}
	return obj, ok, err
}
