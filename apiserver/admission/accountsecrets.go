package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// enforceMountable is how a ServiceAccount keeps its pods to the secrets that it lists. Deprecated upstream since 1.32, and in force.
const enforceMountable = "kubernetes.io/enforce-mountable-secrets"

// What a mirror pod may not have: its node made it, and would be given for it what is the account's or the namespace's.
var (
	errMirror       = errors.New("a mirror pod may not reference service accounts")
	errMirrorSecret = errors.New("a mirror pod may not reference secrets")
	errMirrorToken  = errors.New("a mirror pod may not use ServiceAccountToken volume projections")
)

// validate checks what a new pod, or a container that is added to one, refers to.
func (cfg *ServiceAccountConfig) validate(ctx context.Context, a *Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	added := a.Operation == Update && a.Subresource == "ephemeralcontainers"
	if !ok || a.Operation != Create && !added || !added && a.Subresource != "" {
		return nil
	}
	if err := cfg.secrets(ctx, a, pod, added); err != nil {
		return apierrors.NewForbidden(resource(a), pod.Name, err)
	}
	return nil
}

func (cfg *ServiceAccountConfig) secrets(ctx context.Context, a *Attributes, pod *corev1.Pod, added bool) error {
	if isMirror(pod) && !added {
		return mirrorReferences(pod)
	}
	account, err := cfg.account(ctx, a.Namespace, pod.Spec.ServiceAccountName)
	if err != nil {
		return fmt.Errorf("error looking up service account %s/%s: %w", a.Namespace, pod.Spec.ServiceAccountName, err)
	}
	if account.Annotations[enforceMountable] != "true" {
		return nil
	}
	if added {
		return mountable{account}.containers("ephemeral container", ephemeral(pod))
	}
	return mountable{account}.pod(pod)
}

func mirrorReferences(pod *corev1.Pod) error {
	if pod.Spec.ServiceAccountName != "" {
		return errMirror
	}
	if slices.ContainsFunc(PodReferences(pod), func(r Reference) bool { return r.Resource == "secrets" }) {
		return errMirrorSecret
	}
	for i := range pod.Spec.Volumes {
		if p := pod.Spec.Volumes[i].Projected; p != nil && slices.ContainsFunc(p.Sources, func(s corev1.VolumeProjection) bool { return s.ServiceAccountToken != nil }) {
			return errMirrorToken
		}
	}
	return nil
}

// mountable is an account whose pods may use only the secrets that it lists.
type mountable struct{ *corev1.ServiceAccount }

func (m mountable) lists(secret string) bool {
	return slices.ContainsFunc(m.Secrets, func(r corev1.ObjectReference) bool { return r.Name == secret })
}

func (m mountable) pod(pod *corev1.Pod) error {
	for i := range pod.Spec.Volumes {
		if s := pod.Spec.Volumes[i].Secret; s != nil && !m.lists(s.SecretName) {
			return fmt.Errorf("volume with secret.secretName=%q is not allowed because service account %s does not reference that secret", s.SecretName, m.Name)
		}
	}
	if err := m.containers("init container", pod.Spec.InitContainers); err != nil {
		return err
	}
	if err := m.containers("container", pod.Spec.Containers); err != nil {
		return err
	}
	for i, s := range pod.Spec.ImagePullSecrets {
		if !slices.Contains(m.ImagePullSecrets, s) {
			return fmt.Errorf("imagePullSecrets[%d].name=%q is not allowed because service account %s does not reference that imagePullSecret", i, s.Name, m.Name)
		}
	}
	return nil
}

func (m mountable) containers(kind string, list []corev1.Container) error {
	const why = "referencing secret.secretName=%q is not allowed because service account %s does not reference that secret"
	for i := range list {
		for _, e := range list[i].Env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && !m.lists(e.ValueFrom.SecretKeyRef.Name) {
				return fmt.Errorf("%s %s with envVar %s "+why, kind, list[i].Name, e.Name, e.ValueFrom.SecretKeyRef.Name, m.Name)
			}
		}
		for _, f := range list[i].EnvFrom {
			if f.SecretRef != nil && !m.lists(f.SecretRef.Name) {
				return fmt.Errorf("%s %s with envFrom "+why, kind, list[i].Name, f.SecretRef.Name, m.Name)
			}
		}
	}
	return nil
}

// ephemeral are a pod's ephemeral containers, as containers.
func ephemeral(pod *corev1.Pod) []corev1.Container {
	list := make([]corev1.Container, len(pod.Spec.EphemeralContainers))
	for i := range list {
		list[i] = corev1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
	}
	return list
}
