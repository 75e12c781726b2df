package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// AdminAccess refuses claims that ask for devices beside those who use them (adminAccess) outside of the namespaces that are
// labelled for it: whoever has such a device sees what its users do (KEP-5018). In Kubernetes it is a part of the kinds' validation.
func AdminAccess(reader Reader) Plugin {
	validate := func(ctx context.Context, a *Attributes) error {
		at := adminRequested(a)
		if at == nil {
			return nil
		}
		labelled, err := adminNamespace(ctx, reader, a.Namespace)
		if err != nil || labelled {
			return err
		}
		return apierrors.NewInvalid(a.Resource.Kind.GroupKind(), a.ObjectName(), field.ErrorList{field.Forbidden(at,
			fmt.Sprintf("admin access to devices requires the `%s: true` label on the containing namespace", resourcev1.DRAAdminNamespaceLabelKey))})
	}
	return Plugin{Name: "AdminAccess", Obeys: obeys("", "namespaces"), Validate: validate}
}

// adminRequested returns the field by which a write asks for it: a new claim's or template's request, or a result that a claim
// did not have.
func adminRequested(a *Attributes) *field.Path {
	switch obj := a.Object.(type) {
	case *resourcev1.ResourceClaim:
		if a.Operation == Create && a.Subresource == "" {
			return adminRequest(obj.Spec.Devices.Requests)
		}
		if old, ok := a.Old.(*resourcev1.ResourceClaim); ok && a.Subresource == "status" && adminResult(old.Status.Allocation) == nil {
			return adminResult(obj.Status.Allocation)
		}
	case *resourcev1.ResourceClaimTemplate:
		if a.Operation == Create {
			return adminRequest(obj.Spec.Spec.Devices.Requests)
		}
	}
	return nil
}

// adminRequest names the field as Kubernetes does, in a template too.
func adminRequest(requests []resourcev1.DeviceRequest) *field.Path {
	for i, r := range requests {
		if r.Exactly != nil && r.Exactly.AdminAccess != nil && *r.Exactly.AdminAccess {
			return field.NewPath("spec", "devices", "requests").Index(i).Child("adminAccess")
		}
	}
	return nil
}

func adminResult(allocation *resourcev1.AllocationResult) *field.Path {
	if allocation == nil {
		return nil
	}
	for i, r := range allocation.Devices.Results {
		if r.AdminAccess != nil && *r.AdminAccess {
			return field.NewPath("status", "allocation", "devices", "results").Index(i).Child("adminAccess")
		}
	}
	return nil
}

// adminNamespace reports whether a namespace is labelled, and looks again if it is not: the label may have come a moment ago.
func adminNamespace(ctx context.Context, reader Reader, name string) (bool, error) {
	for _, fresh := range []bool{false, true} {
		obj, ok, err := reader.Object(ctx, "", "namespaces", "", name, fresh)
		if err != nil {
			return false, err
		}
		if ok && obj.(*corev1.Namespace).Labels[resourcev1.DRAAdminNamespaceLabelKey] == "true" {
			return true, nil
		}
	}
	return false, nil
}
