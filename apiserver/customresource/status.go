package customresource

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/util/cert"

	registryext "bareboat.dev/apiserver/registry/apiextensions"
)

// nextStatus returns the definition with the status that it should have next, given all definitions, or nil if it has it
// already. The result shares all but the status with its argument. It is pure. One step is taken at a time: names are accepted first, and established is what has been served
// under its names since, so that other servers know it too.
func nextStatus(d *v1.CustomResourceDefinition, all []*v1.CustomResourceDefinition, now metav1.Time) *v1.CustomResourceDefinition {
	changed := *d
	out := &changed
	d.Status.DeepCopyInto(&out.Status)
	if !equality.Semantic.DeepEqual(d.Spec.Names, d.Status.AcceptedNames) || registryext.Condition(d, v1.NamesAccepted) == nil {
		acceptNames(out, all, now)
	} else if registryext.Is(d, v1.NamesAccepted) && !registryext.Is(d, v1.Established) {
		establish(out, now)
	}
	set(out, approval(d), v1.KubernetesAPIApprovalPolicyConformant, now)
	set(out, nonStructural(d), v1.NonStructuralSchema, now)
	if equality.Semantic.DeepEqual(out.Status, d.Status) {
		return nil
	}
	return out
}

// set makes a condition what it should be, or takes it away.
func set(d *v1.CustomResourceDefinition, c *v1.CustomResourceDefinitionCondition, t v1.CustomResourceDefinitionConditionType, now metav1.Time) {
	if c == nil {
		d.Status.Conditions = slices.DeleteFunc(d.Status.Conditions, func(have v1.CustomResourceDefinitionCondition) bool { return have.Type == t })
		return
	}
	if have := registryext.Condition(d, t); have != nil && have.Status == c.Status && have.Reason == c.Reason && have.Message == c.Message {
		return
	}
	registryext.SetCondition(d, *c, now)
}

// acceptNames gives the definition those of its names that no other of its group has.
func acceptNames(d *v1.CustomResourceDefinition, all []*v1.CustomResourceDefinition, now metav1.Time) {
	resources, kinds := taken(d, all)
	wanted, names := d.Spec.Names, &d.Status.AcceptedNames
	condition := v1.CustomResourceDefinitionCondition{
		Type: v1.NamesAccepted, Status: v1.ConditionTrue, Reason: "NoConflicts", Message: "no conflicts found",
	}
	conflict := func(reason string, err error) {
		condition.Status, condition.Reason, condition.Message = v1.ConditionFalse, reason, err.Error()
	}
	accept := func(wanted string, accepted *string, used map[string]bool, reason string) {
		if err := free(wanted, *accepted, used); err != nil {
			conflict(reason, err)
			return
		}
		*accepted = wanted
	}
	accept(wanted.Plural, &names.Plural, resources, "PluralConflict")
	accept(wanted.Singular, &names.Singular, resources, "SingularConflict")
	if err := shortNames(wanted.ShortNames, names.ShortNames, resources); err != nil {
		conflict("ShortNamesConflict", err)
	} else {
		names.ShortNames = wanted.ShortNames
	}
	accept(wanted.Kind, &names.Kind, kinds, "KindConflict")
	accept(wanted.ListKind, &names.ListKind, kinds, "ListKindConflict")
	names.Categories = wanted.Categories

	set(d, &condition, v1.NamesAccepted, now)
	if registryext.Is(d, v1.Established) {
		return
	}
	established := v1.CustomResourceDefinitionCondition{
		Type: v1.Established, Status: v1.ConditionFalse, Reason: "NotAccepted", Message: "not all names are accepted",
	}
	if condition.Status == v1.ConditionTrue {
		established.Reason, established.Message = "Installing", "the initial names have been accepted"
	} else if have := registryext.Condition(d, v1.Established); have != nil {
		return
	}
	set(d, &established, v1.Established, now)
}

// taken are the names that the group's other definitions have, and the definition's own.
func taken(d *v1.CustomResourceDefinition, all []*v1.CustomResourceDefinition) (resources, kinds map[string]bool) {
	resources, kinds = map[string]bool{}, map[string]bool{}
	for _, other := range all {
		if other.Spec.Group != d.Spec.Group || other.Name == d.Name {
			continue
		}
		n := &other.Status.AcceptedNames
		for _, name := range append([]string{n.Plural, n.Singular}, n.ShortNames...) {
			resources[name] = true
		}
		kinds[n.Kind], kinds[n.ListKind] = true, true
	}
	delete(resources, "")
	delete(kinds, "")
	return resources, kinds
}

func free(wanted, accepted string, used map[string]bool) error {
	if wanted == accepted || !used[wanted] {
		return nil
	}
	return fmt.Errorf("%q is already in use", wanted)
}

func shortNames(wanted, accepted []string, used map[string]bool) error {
	var errs []error
	for _, name := range wanted {
		if slices.Contains(accepted, name) {
			continue
		}
		if err := free(name, "", used); err != nil {
			errs = append(errs, err)
		}
	}
	return utilerrors.NewAggregate(errs)
}

func establish(d *v1.CustomResourceDefinition, now metav1.Time) {
	c := v1.CustomResourceDefinitionCondition{
		Type: v1.Established, Status: v1.ConditionTrue, Reason: "InitialNamesAccepted", Message: "the initial names have been accepted",
	}
	if conv := d.Spec.Conversion; conv != nil && conv.Webhook != nil && conv.Webhook.ClientConfig != nil && len(conv.Webhook.ClientConfig.CABundle) > 0 {
		if _, err := cert.ParseCertsPEM(conv.Webhook.ClientConfig.CABundle); err != nil {
			c.Status, c.Reason, c.Message = v1.ConditionFalse, "InvalidCABundle", "The conversion webhook CABundle is invalid"
		}
	}
	set(d, &c, v1.Established, now)
}

// approval is the condition of a definition in one of the community's groups; nil for others.
func approval(d *v1.CustomResourceDefinition) *v1.CustomResourceDefinitionCondition {
	state, message := registryext.Approve(d.Spec.Group, d.Annotations)
	c := &v1.CustomResourceDefinitionCondition{Type: v1.KubernetesAPIApprovalPolicyConformant, Status: v1.ConditionFalse, Message: message}
	switch state {
	case registryext.Unprotected:
		return nil
	case registryext.ApprovalMissing:
		c.Reason = "MissingAnnotation"
	case registryext.ApprovalInvalid:
		c.Reason = "InvalidAnnotation"
	case registryext.ApprovalBypassed:
		c.Reason = "UnapprovedAnnotation"
	case registryext.Approved:
		c.Status, c.Reason = v1.ConditionTrue, "ApprovedAnnotation"
	}
	return c
}

// nonStructural says what is not structural about a definition's schemas; nil if they are. Only definitions from before that was
// demanded, which keep unknown fields, can have such schemas, so others are not looked at.
func nonStructural(d *v1.CustomResourceDefinition) *v1.CustomResourceDefinitionCondition {
	if !d.Spec.PreserveUnknownFields {
		return nil
	}
	errs := field.ErrorList{field.Invalid(field.NewPath("spec", "preserveUnknownFields"), true, "must be false")}
	for i, v := range d.Spec.Versions {
		if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
			continue
		}
		in := &apiextensions.JSONSchemaProps{}
		if err := v1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v.Schema.OpenAPIV3Schema, in, nil); err != nil {
			continue
		}
		s, err := structuralschema.NewStructural(in)
		if err != nil {
			return &v1.CustomResourceDefinitionCondition{
				Type: v1.NonStructuralSchema, Status: v1.ConditionUnknown, Reason: "StructuralError",
				Message: fmt.Sprintf("failed to check validation schema for version %s: %v", v.Name, err),
			}
		}
		errs = append(errs, structuralschema.ValidateStructural(field.NewPath("spec", "versions").Index(i).Child("schema", "openAPIV3Schema"), s)...)
	}
	return &v1.CustomResourceDefinitionCondition{
		Type: v1.NonStructuralSchema, Status: v1.ConditionTrue, Reason: "Violations", Message: strings.TrimSpace(errs.ToAggregate().Error()),
	}
}

// served reports whether a definition's objects are served.
func served(d *v1.CustomResourceDefinition) bool {
	return registryext.Is(d, v1.NamesAccepted) || registryext.Is(d, v1.Established)
}

// terminating reports whether its objects are being deleted.
func terminating(d *v1.CustomResourceDefinition) bool {
	return d.DeletionTimestamp != nil || registryext.Is(d, v1.Terminating)
}
