package admission

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/apiserver/registry"
)

const (
	// tokenMountPath is where containers find their token, as every client library expects.
	tokenMountPath = "/var/run/secrets/kubernetes.io/serviceaccount"
	// tokenSeconds is the lifetime asked for a pod's token: an hour, and seven seconds by which one can tell it was not chosen.
	tokenSeconds = 3607
	// rootCAConfigMap holds the cluster's certificate authority in every namespace.
	rootCAConfigMap = "kube-root-ca.crt"
)

// ServiceAccountConfig configures the plugin.
type ServiceAccountConfig struct {
	Reader Reader
	// Suffix makes the token volume's name unique in a pod.
	Suffix func() string
	// MountTokens mounts a token into the containers of pods that did not opt out.
	MountTokens bool
}

// ServiceAccount gives pods their ServiceAccount: its name, its image pull secrets and its token. It keeps pods to the secrets that
// their account lists, if the account asks for that, and mirror pods from all of it.
func ServiceAccount(cfg ServiceAccountConfig) Plugin {
	mutate := func(ctx context.Context, a *Attributes) error {
		pod, ok := newPod(a)
		if !ok {
			return nil
		}
		if isMirror(pod) {
			return nil // validate says what it may not have
		}
		named := pod.Spec.ServiceAccountName != ""
		if !named {
			pod.Spec.ServiceAccountName = defaultServiceAccount
		}
		pod.Spec.DeprecatedServiceAccount = pod.Spec.ServiceAccountName
		return cfg.admit(ctx, a, pod)
	}
	return Plugin{Name: "ServiceAccount", Obeys: obeys("", "serviceaccounts"), Mutate: mutate, Validate: cfg.validate}
}

func (cfg *ServiceAccountConfig) admit(ctx context.Context, a *Attributes, pod *corev1.Pod) error {
	account, err := cfg.account(ctx, a.Namespace, pod.Spec.ServiceAccountName)
	if err != nil {
		return apierrors.NewForbidden(resource(a), pod.Name, fmt.Errorf("error looking up service account %s/%s: %w", a.Namespace, pod.Spec.ServiceAccountName, err))
	}
	if len(pod.Spec.ImagePullSecrets) == 0 {
		pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, account.ImagePullSecrets...)
	}
	if cfg.MountTokens && wantsToken(pod, account) {
		cfg.mount(pod)
	}
	return nil
}

var errNoAccount = errors.New("not found")

func (cfg *ServiceAccountConfig) account(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	var obj registry.Object
	ok := false
	var err error
	for i := range attempts(name) {
		if i > 1 && !sleep(ctx, accountPause) {
			break
		}
		if obj, ok, err = cfg.Reader.Object(ctx, "", "serviceaccounts", namespace, name, i > 0); err != nil || ok {
			break
		}
	}
	if err == nil && !ok {
		err = fmt.Errorf("serviceaccount %q %w", name, errNoAccount)
	}
	if err != nil {
		return nil, err
	}
	return obj.(*corev1.ServiceAccount), nil
}

const (
	// accountAttempts and accountPause are how long a pod in a namespace that has just been made waits for the account that a controller
	// makes in it: 10 × 100 ms, as long as upstream waits.
	accountAttempts = 10
	accountPause    = 100 * time.Millisecond
)

// attempts is how often an account is looked for: cached and fresh, and the one that makes itself for a while.
func attempts(name string) int {
	if name == "default" {
		return accountAttempts
	}
	return 2
}

// sleep waits; false means that ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// wantsToken: the pod decides, else its account, else yes.
func wantsToken(pod *corev1.Pod, account *corev1.ServiceAccount) bool {
	if pod.Spec.AutomountServiceAccountToken != nil {
		return *pod.Spec.AutomountServiceAccountToken
	}
	return account.AutomountServiceAccountToken == nil || *account.AutomountServiceAccountToken
}

// mount adds the projected token volume and mounts it into every container that has nothing there yet.
func (cfg *ServiceAccountConfig) mount(pod *corev1.Pod) {
	volume := tokenVolume("kube-api-access-" + cfg.Suffix())
	used := false
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if !mountsAt(&list[i], tokenMountPath) {
				list[i].VolumeMounts = append(list[i].VolumeMounts, corev1.VolumeMount{Name: volume.Name, ReadOnly: true, MountPath: tokenMountPath})
				used = true
			}
		}
	}
	if used {
		pod.Spec.Volumes = append(pod.Spec.Volumes, volume)
	}
}

func mountsAt(c *corev1.Container, at string) bool {
	for _, m := range c.VolumeMounts {
		if path.Clean(m.MountPath) == at {
			return true
		}
	}
	return false
}

func tokenVolume(name string) corev1.Volume {
	seconds, mode := int64(tokenSeconds), int32(0o644)
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		DefaultMode: &mode,
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{ExpirationSeconds: &seconds, Path: "token"}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: rootCAConfigMap},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
				Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"},
			}}}},
		},
	}}}
}
