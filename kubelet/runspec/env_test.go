package runspec

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"bareboat.dev/kubelet/image"
)

// TestExpand shows how $(NAME) is replaced in commands, arguments and values.
func TestExpand(t *testing.T) {
	lookup := func(name string) (string, bool) {
		v, ok := map[string]string{"A": "1", "B": "$(A)"}[name]
		return v, ok
	}
	for in, want := range map[string]string{
		"":            "",
		"plain":       "plain",
		"$(A)":        "1",
		"x$(A)y$(A)z": "x1y1z",
		"$(B)":        "$(A)", // values are not expanded again
		"$(C)":        "$(C)", // unknown names stay
		"$$(A)":       "$(A)", // an escaped dollar begins nothing
		"$$$(A)":      "$1",
		"$A ${A} $":   "$A ${A} $",
		"$(A":         "$(A",
		"$(A$(A)":     "$(A$(A)",
		"$()":         "$()",
		"a$$b":        "a$b",
	} {
		if got := Expand(in, lookup); got != want {
			t.Errorf("Expand(%q) = %q, want %q", in, got, want)
		}
	}
}

// FuzzExpand shows that expansion ends and leaves text without a dollar alone.
func FuzzExpand(f *testing.F) {
	f.Add("$($(A)$$(")
	f.Fuzz(func(t *testing.T, s string) {
		got := Expand(s, func(string) (string, bool) { return "", false })
		if !strings.Contains(s, "$") && got != s {
			t.Errorf("%q became %q", s, got)
		}
	})
}

type fakeSources map[string]any

func (f fakeSources) ConfigMap(_, name string) (*corev1.ConfigMap, error) {
	if m, ok := f[name].(*corev1.ConfigMap); ok {
		return m, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmap"}, name)
}

func (f fakeSources) Secret(_, name string) (*corev1.Secret, error) {
	if m, ok := f[name].(*corev1.Secret); ok {
		return m, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secret"}, name)
}

// fileOf is a file's content.
type fileOf string

func (f fakeSources) File(_ *corev1.Pod, volume, path string) ([]byte, error) {
	if text, ok := f[volume+"/"+path].(fileOf); ok {
		return []byte(text), nil
	}
	return nil, fs.ErrNotExist
}

func container(t *testing.T, text string) *corev1.Container {
	t.Helper()
	c := &corev1.Container{}
	if err := yaml.UnmarshalStrict([]byte(text), c); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestEnv shows where variables come from, which wins, and what is said when a source is missing.
func TestEnv(t *testing.T) {
	p := &corev1.Pod{}
	p.Namespace, p.Name, p.UID, p.Labels = "ns", "web", "u1", map[string]string{"app": "x"}
	p.Spec.NodeName, p.Status.PodIP = "n1", "10.0.0.1"
	sources := fakeSources{
		"cm":  &corev1.ConfigMap{Data: map[string]string{"K": "from cm", "bad key": "x", "Z": "z"}},
		"sec": &corev1.Secret{Data: map[string][]byte{"P": []byte("pw")}},
	}
	services := []*corev1.Service{{}}
	services[0].Namespace, services[0].Name = "ns", "my-db"
	services[0].Spec = corev1.ServiceSpec{ClusterIP: "10.96.0.9", Ports: []corev1.ServicePort{{Name: "sql", Port: 5432}}}
	env := func(text string) ([]string, error) {
		return Env(EnvInput{Pod: p, Container: container(t, text), Sources: sources, Services: services,
			Allocatable: corev1.ResourceList{"cpu": resource.MustParse("4"), "memory": resource.MustParse("8Gi")}})
	}
	for text, want := range map[string]string{
		`{env: [{name: A, value: "1"}, {name: B, value: "$(A)-$(MY_DB_SERVICE_HOST)-$(X)"}]}`:                                              "B=1-10.96.0.9-$(X)",
		`{envFrom: [{configMapRef: {name: cm}}], env: [{name: Z, value: own}]}`:                                                            "K=from cm,Z=own",
		`{envFrom: [{prefix: P_, secretRef: {name: sec}}]}`:                                                                                "P_P=pw",
		`{envFrom: [{prefix: "P ", secretRef: {name: sec}}]}`:                                                                              "P P=pw",
		`{envFrom: [{configMapRef: {name: none, optional: true}}]}`:                                                                        "MY_DB_PORT_5432_TCP_ADDR=10.96.0.9",
		`{env: [{name: A, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app']"}}}]}`:                                                 "A=x",
		`{env: [{name: A, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]}`:                                                             "A=10.0.0.1",
		`{env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}]}`:                                                        "A=4",
		`{env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}], resources: {limits: {memory: 100Ki}}}`: "A=1",
		`{env: [{name: A, valueFrom: {configMapKeyRef: {name: cm, key: none, optional: true}}}]}`:                                          "MY_DB_SERVICE_PORT_SQL=5432",
	} {
		got, err := env(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		for _, w := range strings.Split(want, ",") {
			if !slices.Contains(got, w) {
				t.Errorf("%s: %q is not in %q", text, w, got)
			}
		}
	}
	for text, want := range map[string]string{
		`{env: [{name: A, valueFrom: {configMapKeyRef: {name: none, key: k}}}]}`: `configmap "none" not found`,
		`{env: [{name: A, valueFrom: {secretKeyRef: {name: sec, key: k}}}]}`:     `couldn't find key k in Secret ns/sec`,
		`{envFrom: [{secretRef: {name: none}}]}`:                                 `secret "none" not found`,
	} {
		if _, err := env(text); err == nil || err.Error() != want || !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// TestArgs shows how a container's command and args replace its image's.
func TestArgs(t *testing.T) {
	img := image.Config{Entrypoint: []string{"/entry"}, Cmd: []string{"cmd"}}
	for text, want := range map[string]string{
		`{}`:                             "/entry cmd",
		`{args: [a]}`:                    "/entry a",
		`{command: [c]}`:                 "c",
		`{command: [c], args: ["$(A)"]}`: "c 1",
	} {
		got, err := Args(container(t, text), img, []string{"A=1"})
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %q, %v; want %q", text, got, err, want)
		}
	}
	if _, err := Args(container(t, `{}`), image.Config{}, nil); !errors.Is(err, ErrNoCommand) {
		t.Errorf("no command: %v", err)
	}
}
