package agent

import (
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"bareboat.dev/kubelet/image"
)

// TestCredentials shows which entries of a pull secret are used for an image, the most specific first.
func TestCredentials(t *testing.T) {
	secret := &corev1.Secret{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths": {
		"https://index.docker.io/v1/": {"auth": "aHViOnB3OndpdGg6Y29sb25z"},
		"registry.example": {"username": "all", "password": "1"},
		"registry.example/team": {"username": "team", "password": "2"},
		"*.cloud.example": {"username": "wild", "password": "3"},
		"tokens.example": {"identitytoken": "t"}}}`)}}
	for ref, want := range map[string]string{
		"docker.io/library/busybox:1":    "hub/pw:with:colons",
		"registry.example/other/app:1":   "all/1",
		"registry.example/team/app:1":    "team/2 all/1",
		"registry.example/teamwork/a:1":  "all/1",
		"eu.cloud.example/a:1":           "wild/3",
		"x.eu.cloud.example/a:1":         "",
		"tokens.example/a@sha256:00":     "t",
		"registry.example.evil/team/a:1": "",
	} {
		var got []string
		for _, a := range credentials(secret, ref) {
			got = append(got, text(a))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", ref, got, want)
		}
	}
}

func text(a image.Auth) string {
	if a.IdentityToken != "" {
		return a.IdentityToken
	}
	return a.Username + "/" + a.Password
}

// TestParseSignal shows the spellings of signals in images and pods.
func TestParseSignal(t *testing.T) {
	for in, want := range map[string]syscall.Signal{
		"": syscall.SIGTERM, "SIGQUIT": syscall.SIGQUIT, "quit": syscall.SIGQUIT, "9": syscall.SIGKILL, "SIGRTMIN+3": 37, "RTMIN": 34, "nonsense": syscall.SIGTERM,
	} {
		if name := signalName(in); parseSignal(name) != want {
			t.Errorf("%q is named %q", in, name)
		}
		if got := parseSignal(in); got != want {
			t.Errorf("%q is %v, want %v", in, got, want)
		}
	}
}

// TestMergeConditions shows that a condition has one writer: ours come from us, all others from the API.
func TestMergeConditions(t *testing.T) {
	cond := func(list ...string) (all []corev1.PodCondition) {
		for _, s := range list {
			name, status, _ := strings.Cut(s, "=")
			all = append(all, corev1.PodCondition{Type: corev1.PodConditionType(name), Status: corev1.ConditionStatus(status)})
		}
		return all
	}
	got := ""
	for _, c := range mergeConditions(cond("Ready=True", "gate=Old", "DisruptionTarget=True"), cond("Ready=False", "gate=New", "other=X")) {
		got += string(c.Type) + "=" + string(c.Status) + " "
	}
	if want := "Ready=True gate=New other=X DisruptionTarget=True "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestChooseContainer shows which container is meant where none is named.
func TestChooseContainer(t *testing.T) {
	for spec, want := range map[string]string{
		`{spec: {containers: [{name: a}]}}`: "a",
		`{metadata: {annotations: {kubectl.kubernetes.io/default-container: b}}, spec: {containers: [{name: a}, {name: b}]}}`: "b",
		`{metadata: {name: p}, spec: {containers: [{name: a}, {name: b}]}}`:                                                   "a container name must be specified for pod p, choose one of: [a b]",
	} {
		p := &corev1.Pod{}
		if err := yaml.UnmarshalStrict([]byte(spec), p); err != nil {
			t.Fatal(err)
		}
		c, err := chooseContainer(p, "")
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = c.Name
		}
		if got != want {
			t.Errorf("%s: %s, want %s", spec, got, want)
		}
	}
}

// TestMountOptions shows read-only mounts and propagation.
func TestMountOptions(t *testing.T) {
	for in, want := range map[string]string{
		`{mount: {}, volume: {emptyDir: {}}}`:                                                          "rbind,rprivate,rw",
		`{mount: {readOnly: true}, volume: {emptyDir: {}}}`:                                            "rbind,rprivate,ro",
		`{mount: {readOnly: true, recursiveReadOnly: Enabled}, volume: {emptyDir: {}}}`:                "rbind,rprivate,rro",
		`{mount: {mountPropagation: Bidirectional}, volume: {hostPath: {path: /x}}}`:                   "rbind,rshared,rw",
		`{mount: {mountPropagation: HostToContainer, readOnly: true}, volume: {hostPath: {path: /x}}}`: "rbind,rslave,ro",
		`{mount: {}, volume: {secret: {secretName: s}}}`:                                               "rbind,rprivate,ro",
	} {
		var c struct {
			Mount  corev1.VolumeMount `json:"mount"`
			Volume corev1.Volume      `json:"volume"`
		}
		if err := yaml.Unmarshal([]byte(in), &c); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(mountOptions(&c.Mount, &c.Volume), ","); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
