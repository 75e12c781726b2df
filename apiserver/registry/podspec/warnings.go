package podspec

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
)

// warner collects what a user should know of something that is accepted, each with the path that it is about.
type warner struct{ list []string }

func (w *warner) warn(at *field.Path, format string, args ...any) {
	w.list = append(w.list, at.String()+": "+fmt.Sprintf(format, args...))
}

// DeprecatedLabel says what to use instead of a label of nodes, or nothing.
func DeprecatedLabel(key string) string {
	instead := map[string]string{
		corev1.LabelFailureDomainBetaZone:               `deprecated since v1.17; use "topology.kubernetes.io/zone" instead`,
		corev1.LabelFailureDomainBetaRegion:             `deprecated since v1.17; use "topology.kubernetes.io/region" instead`,
		corev1.LabelInstanceType:                        `deprecated since v1.17; use "node.kubernetes.io/instance-type" instead`,
		"beta.kubernetes.io/arch":                       `deprecated since v1.14; use "kubernetes.io/arch" instead`,
		"beta.kubernetes.io/os":                         `deprecated since v1.14; use "kubernetes.io/os" instead`,
		"app.kubernetes.io/created-by":                  `deprecated since v1.9`,
		"scheduler.alpha.kubernetes.io/preferAvoidPods": `deprecated since v1.22; use Taints and Tolerations instead`,
		"node-role.kubernetes.io/master":                `use "node-role.kubernetes.io/control-plane" instead`,
	}
	return instead[key]
}

// TemplateNameWarnings warns of a workload's name that makes no good host name of a pod.
func TemplateNameWarnings(name string) []string {
	return nameWarnings(name, "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: %v")
}

// PodNameWarnings is TemplateNameWarnings for a pod itself.
func PodNameWarnings(name string) []string {
	return nameWarnings(name, "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: %v")
}

func nameWarnings(name, format string) []string {
	if wrong := validation.IsDNS1123Label(name); name != "" && len(wrong) > 0 {
		return []string{fmt.Sprintf(format, wrong)}
	}
	return nil
}

// Warnings are kube-apiserver's for a pod (at is nil) or a template.
func Warnings(s *corev1.PodSpec, annotations map[string]string, at *field.Path) []string {
	var w warner
	spec := at.Child("spec")
	w.nodeLabels(s, spec)
	w.annotations(s, annotations, at)
	for i := range s.Volumes {
		w.plugins(&s.Volumes[i], spec.Child("volumes").Index(i))
	}
	for i := range s.Volumes {
		w.overlaps(&s.Volumes[i])
	}
	w.duplicates(s, spec)
	w.fractions(s.Overhead, spec.Child("overhead"))
	eachContainer(s, spec, func(c *corev1.Container, at *field.Path) {
		w.fractions(c.Resources.Limits, at.Child("resources", "limits"))
		w.fractions(c.Resources.Requests, at.Child("resources", "requests"))
		w.env(c.Env, at.Child("env"))
	})
	w.ports(s, spec)
	if g := s.TerminationGracePeriodSeconds; g != nil && *g < 0 {
		w.warn(spec.Child("terminationGracePeriodSeconds"), "must be >= 0; negative values are invalid and will be treated as 1")
	}
	w.selectors(s, spec)
	return w.list
}

const matchesNothing = "a null labelSelector results in matching no pod"

func (w *warner) nodeLabels(s *corev1.PodSpec, at *field.Path) {
	for _, key := range slices.Sorted(maps.Keys(s.NodeSelector)) {
		if why := DeprecatedLabel(key); why != "" {
			w.warn(at.Child("nodeSelector").Key(key), "%s", why)
		}
	}
	if s.Affinity != nil && s.Affinity.NodeAffinity != nil {
		n, here := s.Affinity.NodeAffinity, at.Child("affinity", "nodeAffinity")
		if r := n.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
			w.list = append(w.list, SelectorWarnings(r, here.Child("requiredDuringSchedulingIgnoredDuringExecution"))...)
		}
		for i, p := range n.PreferredDuringSchedulingIgnoredDuringExecution {
			w.term(p.Preference, here.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i).Child("preference"))
		}
	}
	for i, c := range s.TopologySpreadConstraints {
		here := at.Child("topologySpreadConstraints").Index(i)
		if why := DeprecatedLabel(c.TopologyKey); why != "" {
			w.warn(here.Child("topologyKey"), "%s is %s", c.TopologyKey, why)
		}
		if c.LabelSelector == nil {
			w.warn(here.Child("labelSelector"), matchesNothing)
		}
	}
}

// SelectorWarnings warns of deprecated labels in a selector of nodes.
func SelectorWarnings(n *corev1.NodeSelector, at *field.Path) []string {
	var w warner
	for i, t := range n.NodeSelectorTerms {
		w.term(t, at.Child("nodeSelectorTerms").Index(i))
	}
	return w.list
}

func (w *warner) term(t corev1.NodeSelectorTerm, at *field.Path) {
	for i, r := range t.MatchExpressions {
		if why := DeprecatedLabel(r.Key); why != "" {
			w.warn(at.Child("matchExpressions").Index(i).Child("key"), "%s is %s", r.Key, why)
		}
	}
}

func (w *warner) annotations(s *corev1.PodSpec, annotations map[string]string, at *field.Path) {
	at = at.Child("metadata", "annotations")
	has := func(key, format string, args ...any) {
		if _, ok := annotations[key]; ok {
			w.warn(at.Key(key), format, args...)
		}
	}
	has("scheduler.alpha.kubernetes.io/critical-pod", `non-functional in v1.16+; use the "priorityClassName" field instead`)
	has("security.alpha.kubernetes.io/sysctls", `non-functional in v1.11+; use the "sysctls" field instead`)
	has("security.alpha.kubernetes.io/unsafe-sysctls", `non-functional in v1.11+; use the "sysctls" field instead`)
	const seccomp = `non-functional in v1.27+; use the "seccompProfile" field instead`
	if s.SecurityContext == nil || s.SecurityContext.SeccompProfile == nil {
		has(corev1.SeccompPodAnnotationKey, seccomp)
	}
	hasProfile := s.SecurityContext != nil && s.SecurityContext.AppArmorProfile != nil
	eachContainer(s, nil, func(c *corev1.Container, _ *field.Path) {
		if c.SecurityContext == nil || c.SecurityContext.SeccompProfile == nil {
			has(corev1.SeccompContainerAnnotationKeyPrefix+c.Name, seccomp)
		}
		if !hasProfile && (c.SecurityContext == nil || c.SecurityContext.AppArmorProfile == nil) {
			has(corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix+c.Name, `deprecated since v1.30; use the "appArmorProfile" field instead`)
		}
	})
}

func (w *warner) plugins(v *corev1.Volume, at *field.Path) {
	for _, p := range []struct {
		name, since string
		set         bool
	}{
		{"photonPersistentDisk", "v1.11, non-functional in v1.16+", v.PhotonPersistentDisk != nil},
		{"gitRepo", "v1.11, and disabled by default in v1.33+", v.GitRepo != nil},
		{"scaleIO", "v1.16, non-functional in v1.22+", v.ScaleIO != nil},
		{"flocker", "v1.22, non-functional in v1.25+", v.Flocker != nil},
		{"storageOS", "v1.22, non-functional in v1.25+", v.StorageOS != nil},
		{"quobyte", "v1.22, non-functional in v1.25+", v.Quobyte != nil},
		{"glusterfs", "v1.25, non-functional in v1.26+", v.Glusterfs != nil},
		{"cephfs", "v1.28, non-functional in v1.31+", v.CephFS != nil},
		{"rbd", "v1.28, non-functional in v1.31+", v.RBD != nil},
	} {
		if p.set {
			w.warn(at.Child(p.name), "deprecated in %s", p.since)
		}
	}
	if v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil {
		w.list = append(w.list, ClaimWarnings(&v.Ephemeral.VolumeClaimTemplate.Spec, at.Child("ephemeral", "volumeClaimTemplate", "spec"))...)
	}
}

// ClaimWarnings are those for a PersistentVolumeClaimSpec.
func ClaimWarnings(s *corev1.PersistentVolumeClaimSpec, at *field.Path) []string {
	var w warner
	if q, ok := s.Resources.Requests[corev1.ResourceStorage]; ok {
		w.fraction(q, at.Child("resources", "requests").Key(string(corev1.ResourceStorage)))
	}
	return w.list
}

func (w *warner) fractions(list corev1.ResourceList, at *field.Path) {
	for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if q, ok := list[name]; ok {
			w.fraction(q, at.Key(string(name)))
		}
	}
}

func (w *warner) fraction(q resource.Quantity, at *field.Path) {
	if q.MilliValue()%1000 != 0 {
		w.warn(at, "fractional byte value %q is invalid, must be an integer", q.String())
	}
}

func (w *warner) duplicates(s *corev1.PodSpec, at *field.Path) {
	seen := map[string]bool{}
	for i, a := range s.HostAliases {
		if seen[a.IP] {
			w.warn(at.Child("hostAliases").Index(i).Child("ip"), "duplicate ip %q", a.IP)
		}
		seen[a.IP] = true
	}
	seen = map[string]bool{}
	for i, p := range s.ImagePullSecrets {
		here := at.Child("imagePullSecrets").Index(i).Child("name")
		if seen[p.Name] {
			w.warn(here, "duplicate name %q", p.Name)
		}
		if p.Name == "" {
			w.warn(here, "invalid empty name %q", p.Name)
		}
		seen[p.Name] = true
	}
}

// env warns of a variable that hides an earlier one of its name, unless it is made from it.
func (w *warner) env(vars []corev1.EnvVar, at *field.Path) {
	seen := map[string]bool{}
	for i, v := range vars {
		ref := "$(" + v.Name + ")"
		if seen[v.Name] && (v.ValueFrom != nil || v.Value == ref || !strings.Contains(v.Value, ref)) {
			w.warn(at.Index(i), "hides previous definition of %q, which may be dropped when using apply", v.Name)
		}
		seen[v.Name] = true
	}
}

func (w *warner) ports(s *corev1.PodSpec, at *field.Path) {
	type place struct {
		at   *field.Path
		port corev1.ContainerPort
	}
	all := map[string][]place{}
	eachContainer(s, at, func(c *corev1.Container, at *field.Path) {
		for i, p := range c.Ports {
			here := at.Child("ports").Index(i)
			if p.HostIP != "" && p.HostPort == 0 {
				w.warn(here, "hostIP set without hostPort: %+v", p)
			}
			key := fmt.Sprintf("%d/%s", p.ContainerPort, p.Protocol)
			for _, o := range all[key] {
				switch {
				case p.HostIP == o.port.HostIP && p.HostPort == o.port.HostPort:
					w.warn(here, "duplicate port definition with %s", o.at)
				case p.HostPort == 0 || o.port.HostPort == 0:
					w.warn(here, "overlapping port definition with %s", o.at)
				case p.HostPort == o.port.HostPort && (p.HostIP == "") != (o.port.HostIP == ""):
					w.warn(here, "dangerously ambiguous port definition with %s", o.at)
				}
			}
			all[key] = append(all[key], place{here, p})
		}
	})
}

func (w *warner) selectors(s *corev1.PodSpec, at *field.Path) {
	if s.Affinity == nil {
		return
	}
	terms := func(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm, at *field.Path) {
		for i, t := range required {
			if t.LabelSelector == nil {
				w.warn(at.Child("requiredDuringSchedulingIgnoredDuringExecution").Index(i).Child("labelSelector"), matchesNothing)
			}
		}
		for i, t := range preferred {
			if t.PodAffinityTerm.LabelSelector == nil {
				w.warn(at.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i).Child("podAffinityTerm", "labelSelector"), matchesNothing)
			}
		}
	}
	if a := s.Affinity.PodAffinity; a != nil {
		terms(a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution, at.Child("affinity", "podAffinity"))
	}
	if a := s.Affinity.PodAntiAffinity; a != nil {
		terms(a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution, at.Child("affinity", "podAntiAffinity"))
	}
}

// TemplateWarnings are the warnings of a workload with a template at a path: when it is made, also about its name and whatever
// more says; when it changes, only if its spec does.
func TemplateWarnings[T registry.Object](template func(T) *corev1.PodTemplateSpec, more func(T) []string, at *field.Path) (
	create func(registry.Object) []string, change func(obj, old registry.Object) []string) {
	about := func(obj T) []string {
		t := template(obj)
		if t == nil {
			return nil
		}
		list := Warnings(&t.Spec, t.Annotations, at)
		if more != nil {
			list = append(list, more(obj)...)
		}
		return list
	}
	create = func(obj registry.Object) []string {
		return append(TemplateNameWarnings(obj.GetName()), about(obj.(T))...)
	}
	change = func(obj, old registry.Object) []string {
		if obj.GetGeneration() == old.GetGeneration() {
			return nil
		}
		return about(obj.(T))
	}
	return create, change
}
