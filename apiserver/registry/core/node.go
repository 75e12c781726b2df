package core

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

func nodes() *registry.Resource {
	return &registry.Resource{
		Kind: kind("Node"), Plural: "nodes", Singular: "node", ShortNames: []string{"no"},
		KeyPrefix: "/registry/minions/",
		New:       func() registry.Object { return &corev1.Node{} },
		NewList:   func() runtime.Object { return &corev1.NodeList{} },
		Strategy: registry.Strategy{
			Default:       registry.On(defaultNode),
			PrepareCreate: registry.On(func(n *corev1.Node) { n.Spec.ConfigSource, n.Status.Config = nil, nil }),
			PrepareUpdate: registry.OnChange(func(n, old *corev1.Node) {
				n.Status = old.Status
				if old.Spec.ConfigSource == nil {
					n.Spec.ConfigSource = nil // It configures kubelets of the past.
				}
			}),
			Validate: registry.Checks(func(e *check.Errors, n *corev1.Node) {
				checkTaints(e, n.Spec.Taints, field.NewPath("metadata", "taints"))
				checkNodeResources(e, n)
				checkFeatures(e, n.Status.DeclaredFeatures, field.NewPath("status", "declaredFeatures"))
				checkPodCIDRs(e, n.Spec.PodCIDRs, field.NewPath("spec", "podCIDRs"))
			}),
			ValidateUpdate:           registry.ChecksChange(checkNodeUpdate),
			ValidateName:             dnsSubdomain,
			Warnings:                 registry.Warns(nodeWarnings),
			AllowUnconditionalUpdate: true,
		},
		Fields: map[string]func(registry.Object) string{
			"spec.unschedulable": registry.Field(func(n *corev1.Node) string { return strconv.FormatBool(n.Spec.Unschedulable) }),
		},
		Columns: nodeColumns(),
		Subresources: map[string]registry.Subresource{
			"status": registry.StatusSubresource(func(n, body *corev1.Node) { n.Status = body.Status }, checkNodeUpdate),
			"proxy":  registry.StreamSubresource(corev1.SchemeGroupVersion.WithKind("NodeProxyOptions"), "create", "delete", "get", "patch", "update"),
		},
	}
}

func defaultNode(n *corev1.Node) {
	if n.Status.Allocatable == nil && n.Status.Capacity != nil {
		n.Status.Allocatable = n.Status.Capacity.DeepCopy()
	}
	// The singular and the plural are two views of one list; where they differ the older one is followed.
	if n.Spec.PodCIDR != "" && (len(n.Spec.PodCIDRs) == 0 || n.Spec.PodCIDRs[0] != n.Spec.PodCIDR) {
		n.Spec.PodCIDRs = []string{n.Spec.PodCIDR}
	}
	if n.Spec.PodCIDR == "" && len(n.Spec.PodCIDRs) > 0 {
		n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
	}
}

func checkTaints(e *check.Errors, taints []corev1.Taint, at *field.Path) {
	seen := sets.New[string]()
	for i, t := range taints {
		here := at.Index(i)
		e.LabelName(here.Child("key"), t.Key)
		if msgs := validation.IsValidLabelValue(t.Value); len(msgs) > 0 {
			e.Invalid(here.Child("value"), t.Value, strings.Join(msgs, ";"))
		}
		podspec.ValidateTaintEffect(e, t.Effect, here.Child("effect"))
		id := t.Key + "\x00" + string(t.Effect)
		if seen.Has(id) {
			err := field.Duplicate(here, t)
			err.Detail = "taints must be unique by key and effect pair"
			e.Add(err)
		}
		seen.Insert(id)
	}
}

func checkNodeResources(e *check.Errors, n *corev1.Node) {
	one := func(list corev1.ResourceList, name string) {
		for _, r := range slices.Sorted(maps.Keys(list)) {
			podspec.ValidateQuantity(e, field.NewPath("status", name, string(r)), r, list[r])
		}
	}
	one(n.Status.Capacity, "capacity")
	one(n.Status.Allocatable, "allocatable")
}

func checkPodCIDRs(e *check.Errors, cidrs []string, at *field.Path) {
	for i, cidr := range cidrs {
		e.CIDR(at.Index(i), cidr)
	}
	e.OnePerFamily(at, cidrs, cidrs, "CIDR")
}

// checkFeatures checks the names of what a node can do, which are sorted: "MyFeature", "MyFeature/itsPart" (KEP-5328).
func checkFeatures(e *check.Errors, names []string, at *field.Path) {
	for i, name := range names {
		switch {
		case len(name) > validation.DNS1123SubdomainMaxLength:
			e.Invalid(at.Index(i), name, fmt.Sprintf("invalid feature name %q: must be no more than %d characters", name, validation.DNS1123SubdomainMaxLength))
		case !isFeatureName(name):
			e.Invalid(at.Index(i), name, fmt.Sprintf("invalid feature name %q: must start with an UpperCamelCase segment, with subsequent segments "+
				"separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes", name))
		}
		if i == 0 {
			continue
		}
		switch {
		case name == names[i-1]:
			e.Duplicate(at.Index(i), name)
		case name < names[i-1]:
			e.Invalid(at.Index(i), name, "list must be sorted alphabetically")
		}
	}
}

func isFeatureName(name string) bool {
	letter := func(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || !letter(part[0]) {
			return false
		}
		for i := range len(part) {
			if !letter(part[i]) && (part[i] < '0' || part[i] > '9') {
				return false
			}
		}
	}
	return name[0] >= 'A' && name[0] <= 'Z'
}

func checkNodeUpdate(e *check.Errors, n, old *corev1.Node) {
	checkNodeResources(e, n)
	checkFeatures(e, n.Status.DeclaredFeatures, field.NewPath("status", "declaredFeatures"))
	seen := sets.New[corev1.NodeAddress]()
	for i, a := range n.Status.Addresses {
		if seen.Has(a) {
			e.Duplicate(field.NewPath("status", "addresses").Index(i), a)
		}
		seen.Insert(a)
	}
	spec := field.NewPath("spec")
	checkPodCIDRs(e, n.Spec.PodCIDRs, spec.Child("podCIDRs"))
	if len(old.Spec.PodCIDRs) > 0 && !slices.Equal(n.Spec.PodCIDRs, old.Spec.PodCIDRs) {
		e.Forbidden(spec.Child("podCIDRs"), `node updates may not change podCIDR except from "" to valid`)
	}
	switch {
	case old.Spec.ProviderID == "" || n.Spec.ProviderID == old.Spec.ProviderID:
	case n.Spec.ProviderID == "":
		e.Invalid(spec.Child("providerID"), nil, "field cannot be cleared once set")
	default:
		e.Invalid(spec.Child("providerID"), nil, "field cannot be modified once set")
	}
	checkTaints(e, n.Spec.Taints, field.NewPath("metadata", "taints"))
	if n.Spec.DoNotUseExternalID != old.Spec.DoNotUseExternalID {
		e.Forbidden(spec.Child("externalID"), "may not be updated")
	}
	if !equality.Semantic.DeepEqual(n.Spec.ConfigSource, old.Spec.ConfigSource) && n.Spec.ConfigSource != nil {
		checkConfigSource(e, n.Spec.ConfigSource, spec.Child("configSource"))
	}
}

// checkConfigSource keeps the form of a field that nothing reads any more.
func checkConfigSource(e *check.Errors, s *corev1.NodeConfigSource, at *field.Path) {
	c := s.ConfigMap
	if c == nil {
		e.Invalid(at, s, "exactly one reference subfield must be non-nil")
		return
	}
	at = at.Child("configMap")
	if c.UID != "" {
		e.Forbidden(at.Child("uid"), "uid must not be set in spec")
	}
	if c.ResourceVersion != "" {
		e.Forbidden(at.Child("resourceVersion"), "resourceVersion must not be set in spec")
	}
	for name, value := range map[string]string{"namespace": c.Namespace, "name": c.Name, "kubeletConfigKey": c.KubeletConfigKey} {
		if value == "" {
			e.Required(at.Child(name), name+" must be set")
		}
	}
}

const (
	roleLabelPrefix = "node-role.kubernetes.io/"
	roleLabel       = "kubernetes.io/role"
)

func nodeColumns() []registry.Column {
	info, status := corev1.NodeSystemInfo{}.SwaggerDoc(), corev1.NodeStatus{}.SwaggerDoc()
	return []registry.Column{
		registry.NameColumn(),
		registry.Text("Status", "The status of the node", nodeStatus),
		registry.Text("Roles", "The roles of the node", nodeRoles),
		registry.AgeColumn(),
		registry.Text("Version", info["kubeletVersion"], func(n *corev1.Node) string { return n.Status.NodeInfo.KubeletVersion }),
		registry.Text("Internal-IP", status["addresses"], func(n *corev1.Node) string { return nodeAddress(n, corev1.NodeInternalIP) }).Wide(),
		registry.Text("External-IP", status["addresses"], func(n *corev1.Node) string { return nodeAddress(n, corev1.NodeExternalIP) }).Wide(),
		registry.Text("OS-Image", info["osImage"], func(n *corev1.Node) string { return orUnknown(n.Status.NodeInfo.OSImage) }).Wide(),
		registry.Text("Kernel-Version", info["kernelVersion"], kernel).Wide(),
		registry.Text("Container-Runtime", info["containerRuntimeVersion"],
			func(n *corev1.Node) string { return orUnknown(n.Status.NodeInfo.ContainerRuntimeVersion) }).Wide(),
	}
}

func nodeStatus(n *corev1.Node) string {
	status := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			status = "NotReady"
			if c.Status == corev1.ConditionTrue {
				status = "Ready"
			}
		}
	}
	if n.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	return status
}

func nodeRoles(n *corev1.Node) string {
	roles := sets.New[string]()
	for key, value := range n.Labels {
		if role, ok := strings.CutPrefix(key, roleLabelPrefix); ok && role != "" {
			roles.Insert(role)
		} else if key == roleLabel && value != "" {
			roles.Insert(value)
		}
	}
	return registry.OrNone(strings.Join(sets.List(roles), ","))
}

func nodeAddress(n *corev1.Node, t corev1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == t {
			return a.Address
		}
	}
	return "<none>"
}

func orUnknown(s string) string {
	if s == "" {
		return "<unknown>"
	}
	return s
}

func kernel(n *corev1.Node) string {
	info := &n.Status.NodeInfo
	if info.KernelVersion == "" || info.Architecture == "" {
		return orUnknown(info.KernelVersion)
	}
	return info.KernelVersion + " (" + info.Architecture + ")"
}
