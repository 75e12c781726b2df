package podsecurity

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/registry"
)

// world is one namespace and its pods.
type world struct {
	labels map[string]string
	pods   []registry.Object
}

func (w world) Object(_ context.Context, _, plural, _, name string, _ bool) (registry.Object, bool, error) {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: w.labels}}, plural == "namespaces", nil
}
func (w world) Objects(context.Context, string, string, string) ([]registry.Object, error) {
	return nil, nil // the cache knows of no pod yet
}
func (w world) Fresh(context.Context, string, string, string) ([]registry.Object, error) {
	return w.pods, nil
}
func (world) Collection(string, string) (admission.Collection, bool) { return nil, false }

func labels(pairs ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m["pod-security.kubernetes.io/"+pairs[i]] = pairs[i+1]
	}
	return m
}

func spec(change ...func(*corev1.PodSpec)) corev1.PodSpec {
	s := corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}
	for _, c := range change {
		c(&s)
	}
	return s
}

func hostNetwork(s *corev1.PodSpec) { s.HostNetwork = true }

func image(name string) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) { s.Containers[0].Image = name }
}

func pod(s corev1.PodSpec) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: s}
}

const restrictedViolations = `allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")`

// TestPods shows what becomes of pods and of workloads in namespaces with labels, with defaults, and of those that are exempt.
func TestPods(t *testing.T) {
	class := "kata"
	tests := map[string]struct {
		labels   map[string]string
		cfg      Configuration
		obj, old registry.Object
		sub      string
		refused  string
		warned   []string
		note     string
	}{
		"no labels":        {obj: pod(spec(hostNetwork))},
		"baseline":         {labels: labels("enforce", "baseline"), obj: pod(spec())},
		"host network":     {labels: labels("enforce", "baseline"), obj: pod(spec(hostNetwork)), refused: `pods "p" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`},
		"old version":      {labels: labels("enforce", "restricted", "enforce-version", "v1.7"), obj: pod(spec()), refused: `violates PodSecurity "restricted:v1.7": runAsNonRoot != true`},
		"restricted":       {labels: labels("enforce", "restricted"), obj: pod(spec()), refused: `violates PodSecurity "restricted:latest": ` + restrictedViolations},
		"warned only":      {labels: labels("warn", "baseline"), obj: pod(spec(hostNetwork)), warned: []string{`would violate PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`}},
		"noted only":       {labels: labels("audit", "baseline"), obj: pod(spec(hostNetwork)), note: `would violate PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`},
		"bad label":        {labels: labels("enforce", "strict"), obj: pod(spec()), refused: `violates PodSecurity "restricted:latest"`},
		"workload":         {labels: labels("enforce", "baseline"), obj: &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: spec(hostNetwork)}}}, warned: []string{`would violate PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`}},
		"by default":       {cfg: Configuration{Defaults: Defaults{Enforce: "baseline"}}, obj: pod(spec(hostNetwork)), refused: `violates PodSecurity "baseline:latest"`},
		"exempt namespace": {labels: labels("enforce", "baseline"), cfg: Configuration{Exemptions: Exemptions{Namespaces: []string{"ns"}}}, obj: pod(spec(hostNetwork))},
		"exempt user":      {labels: labels("enforce", "baseline"), cfg: Configuration{Exemptions: Exemptions{Usernames: []string{"jane"}}}, obj: pod(spec(hostNetwork))},
		"exempt class":     {labels: labels("enforce", "baseline"), cfg: Configuration{Exemptions: Exemptions{RuntimeClasses: []string{class}}}, obj: pod(spec(hostNetwork, func(s *corev1.PodSpec) { s.RuntimeClassName = &class }))},
		"other update":     {labels: labels("enforce", "baseline"), obj: pod(spec(hostNetwork)), old: pod(spec(hostNetwork))},
		"new image":        {labels: labels("enforce", "baseline"), obj: pod(spec(hostNetwork, image("j"))), old: pod(spec(hostNetwork)), refused: "violates PodSecurity"},
		"status":           {labels: labels("enforce", "baseline"), obj: pod(spec(hostNetwork, image("j"))), old: pod(spec(hostNetwork)), sub: "status"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := &admission.Attributes{
				Operation: admission.Create, Namespace: "ns", Object: tt.obj, Old: tt.old, Subresource: tt.sub, User: &authn.Identity{Name: "jane"},
				Resource: &registry.Resource{Plural: "pods"}, Request: admission.Request{Notes: &admission.Notes{}},
			}
			if tt.old != nil {
				a.Operation = admission.Update
			}
			judge(t, world{labels: tt.labels}, tt.cfg, a, tt.refused, tt.warned)
			if got := a.Request.Notes.All()["pod-security.kubernetes.io/audit-violations"]; tt.note != "" && got != tt.note {
				t.Errorf("noted %q", got)
			}
		})
	}
}

func judge(t *testing.T, w world, cfg Configuration, a *admission.Attributes, refused string, warned []string) {
	t.Helper()
	p, err := Plugin(w, w, cfg, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	err = p.Validate(t.Context(), a)
	if (err == nil) != (refused == "") || err != nil && !strings.Contains(err.Error(), refused) {
		t.Errorf("got %v, want %s", err, refused)
	}
	if !slices.Equal(a.Warnings(), warned) {
		t.Errorf("warned %q, want %q", a.Warnings(), warned)
	}
}

// TestNamespaces shows that labels must make sense, and that a stricter one names the pods that it would not let in.
func TestNamespaces(t *testing.T) {
	yes := true
	owned := func(name string) *corev1.Pod {
		p := pod(spec(hostNetwork))
		p.Name, p.OwnerReferences = name, []metav1.OwnerReference{{UID: "rs", Controller: &yes}}
		return p
	}
	privileged := pod(spec(func(s *corev1.PodSpec) { s.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: &yes} }))
	pods := []registry.Object{owned("b"), owned("a"), owned("c"), privileged, pod(spec())}
	existing := []string{
		`existing pods in namespace "ns" violate the new PodSecurity enforce level "baseline:latest"`, "a (and 2 other pods): host namespaces", "p: privileged",
	}
	tests := map[string]struct {
		cfg     Configuration
		is, was map[string]string
		refused string
		warned  []string
	}{
		"stricter":       {is: labels("enforce", "baseline"), warned: existing},
		"the same":       {is: labels("enforce", "baseline"), was: labels("enforce", "baseline")},
		"milder":         {is: labels("enforce", "baseline"), was: labels("enforce", "restricted")},
		"no level":       {is: labels("enforce", "strict"), refused: `Namespace "ns" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "strict": must be one of privileged, baseline, restricted`},
		"no version":     {is: labels("warn-version", "1.2"), refused: `must be "latest" or "v1.x"`},
		"still no level": {is: labels("enforce", "strict", "warn", "baseline"), was: labels("enforce", "strict")},
		"exempt":         {cfg: Configuration{Exemptions: Exemptions{Namespaces: []string{"ns"}}}, is: labels("enforce", "baseline"), warned: []string{`namespace "ns" is exempt from Pod Security, and the policy (enforce=baseline:latest) will be ignored`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			meta := metav1.ObjectMeta{Name: "ns"}
			is, was := &corev1.Namespace{ObjectMeta: meta}, &corev1.Namespace{ObjectMeta: meta}
			is.Labels, was.Labels = tt.is, tt.was
			a := &admission.Attributes{Operation: admission.Update, Name: "ns", Object: is, Old: was, Resource: &registry.Resource{Plural: "namespaces"}}
			judge(t, world{pods: pods}, tt.cfg, a, tt.refused, tt.warned)
		})
	}
}
