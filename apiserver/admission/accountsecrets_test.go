package admission

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/core"
)

// oneAccount is a reader that has one account.
type oneAccount struct {
	Reader
	account *corev1.ServiceAccount
}

func (r oneAccount) Object(context.Context, string, string, string, string, bool) (registry.Object, bool, error) {
	return r.account, true, nil
}

// TestMountableSecrets shows that an account which enforces its list keeps new pods, and containers added to pods, to the secrets on it,
// in Kubernetes' words; that others' pods may use any; and what mirror pods may not have.
func TestMountableSecrets(t *testing.T) {
	env := func(secret string) []corev1.EnvVar {
		return []corev1.EnvVar{{Name: "PASSWORD", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: secret}}}}}
	}
	from := func(secret string) []corev1.EnvFromSource {
		return []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: secret}}}}
	}
	volume := func(s corev1.VolumeSource) corev1.PodSpec {
		return corev1.PodSpec{ServiceAccountName: "robot", Volumes: []corev1.Volume{{Name: "v", VolumeSource: s}}}
	}
	with := func(c corev1.Container) corev1.PodSpec {
		return corev1.PodSpec{ServiceAccountName: "robot", Containers: []corev1.Container{c}}
	}
	secret := func(name string) corev1.VolumeSource {
		return corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name}}
	}
	debug := corev1.PodSpec{ServiceAccountName: "robot", EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "d", Env: env("other")}}}}
	token := volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{}}}}})
	token.ServiceAccountName = ""
	mirrored := func(s corev1.PodSpec) corev1.PodSpec { s.ServiceAccountName = ""; return s }
	const not = ` is not allowed because service account robot does not reference that secret`
	for name, c := range map[string]struct {
		spec         corev1.PodSpec
		enforce      string
		mirror       bool
		op           Operation
		sub, refused string
	}{
		"listed":           {spec: volume(secret("mine")), enforce: "true"},
		"volume":           {spec: volume(secret("other")), enforce: "true", refused: `volume with secret.secretName="other"` + not},
		"variable":         {spec: with(corev1.Container{Name: "c", Env: env("other")}), enforce: "true", refused: `container c with envVar PASSWORD referencing secret.secretName="other"` + not},
		"all variables":    {spec: with(corev1.Container{Name: "c", EnvFrom: from("other")}), enforce: "true", refused: `container c with envFrom referencing secret.secretName="other"` + not},
		"init container":   {spec: corev1.PodSpec{ServiceAccountName: "robot", InitContainers: []corev1.Container{{Name: "i", Env: env("other")}}}, enforce: "true", refused: `init container i with envVar PASSWORD referencing secret.secretName="other"` + not},
		"pull secret":      {spec: corev1.PodSpec{ServiceAccountName: "robot", ImagePullSecrets: []corev1.LocalObjectReference{{Name: "puller"}, {Name: "mine"}}}, enforce: "true", refused: `imagePullSecrets[1].name="mine" is not allowed because service account robot does not reference that imagePullSecret`},
		"not enforced":     {spec: volume(secret("other")), enforce: "false"},
		"added":            {spec: debug, enforce: "true", op: Update, sub: "ephemeralcontainers", refused: `ephemeral container d with envVar PASSWORD referencing secret.secretName="other"` + not},
		"status":           {spec: volume(secret("other")), enforce: "true", op: Update, sub: "status"},
		"update":           {spec: volume(secret("other")), enforce: "true", op: Update},
		"mirror":           {spec: mirrored(with(corev1.Container{Name: "c"})), mirror: true, enforce: "true"},
		"mirror, account":  {spec: with(corev1.Container{Name: "c"}), mirror: true, refused: "a mirror pod may not reference service accounts"},
		"mirror, secret":   {spec: mirrored(volume(secret("mine"))), mirror: true, refused: "a mirror pod may not reference secrets"},
		"mirror, variable": {spec: mirrored(with(corev1.Container{Name: "c", Env: env("mine")})), mirror: true, refused: "a mirror pod may not reference secrets"},
		"mirror, token":    {spec: token, mirror: true, refused: "a mirror pod may not use ServiceAccountToken volume projections"},
	} {
		t.Run(name, func(t *testing.T) {
			plugin := ServiceAccount(ServiceAccountConfig{Reader: oneAccount{account: &corev1.ServiceAccount{
				ObjectMeta: metav1.ObjectMeta{Name: "robot", Annotations: map[string]string{"kubernetes.io/enforce-mountable-secrets": c.enforce}},
				Secrets:    []corev1.ObjectReference{{Name: "mine"}}, ImagePullSecrets: []corev1.LocalObjectReference{{Name: "puller"}},
			}}})
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Spec: c.spec}
			if c.mirror {
				pod.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
			}
			op := c.op
			if op == "" {
				op = Create
			}
			a := &Attributes{Operation: op, Resource: podResource(), Namespace: "ns", Name: "p", Subresource: c.sub, Object: pod}
			err := plugin.Validate(t.Context(), a)
			if (err == nil) != (c.refused == "") || err != nil && !strings.HasSuffix(err.Error(), c.refused) {
				t.Errorf("%v, want %q", err, c.refused)
			}
		})
	}
}

func podResource() *registry.Resource {
	for _, r := range core.Resources() {
		if r.Plural == "pods" {
			return r
		}
	}
	return nil
}
