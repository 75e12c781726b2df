package admission

import (
	"context"

	networkingv1 "k8s.io/api/networking/v1"
)

// ingressClassAnnotation is how Ingresses named their class before there was a field for it.
const ingressClassAnnotation = "kubernetes.io/ingress.class"

// DefaultIngressClass gives Ingresses that name no class the one that is marked as the default.
func DefaultIngressClass(reader Reader) Plugin {
	return Plugin{Name: "DefaultIngressClass", Obeys: obeys(networkingv1.GroupName, "ingressclasses"), Mutate: func(ctx context.Context, a *Attributes) error {
		ingress, ok := a.Object.(*networkingv1.Ingress)
		if !ok || a.Operation != Create || a.Subresource != "" || ingress.Spec.IngressClassName != nil {
			return nil
		}
		if _, named := ingress.Annotations[ingressClassAnnotation]; named {
			return nil
		}
		class, err := markedDefault(ctx, reader, networkingv1.GroupName, "ingressclasses", networkingv1.AnnotationIsDefaultIngressClass)
		if err != nil || class == nil {
			return err
		}
		name := class.GetName()
		ingress.Spec.IngressClassName = &name
		return nil
	}}
}
