package objects

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Refs are what a pod refers to: in environments, volumes and pull secrets.
func Refs(p *corev1.Pod) []Ref {
	var refs []Ref
	add := func(k Kind, name string) {
		r := Ref{Kind: k, Namespace: p.Namespace, Name: name}
		switch k {
		case TrustBundle, SignerBundles:
			r.Namespace = ""
		case CertificateRequests:
			r.Name, r.Node = p.Name, p.Spec.NodeName
		}
		if r.Name != "" && !slices.Contains(refs, r) {
			refs = append(refs, r)
		}
	}
	for _, s := range p.Spec.ImagePullSecrets {
		add(Secret, s.Name)
	}
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		envRefs(c.Env, c.EnvFrom, add)
	}
	for _, c := range p.Spec.EphemeralContainers {
		envRefs(c.Env, c.EnvFrom, add)
	}
	for _, v := range p.Spec.Volumes {
		volumeRefs(v.VolumeSource, add)
	}
	return refs
}

func envRefs(env []corev1.EnvVar, from []corev1.EnvFromSource, add func(Kind, string)) {
	for _, f := range from {
		if f.ConfigMapRef != nil {
			add(ConfigMap, f.ConfigMapRef.Name)
		}
		if f.SecretRef != nil {
			add(Secret, f.SecretRef.Name)
		}
	}
	for _, v := range env {
		if v.ValueFrom == nil {
			continue
		}
		if r := v.ValueFrom.ConfigMapKeyRef; r != nil {
			add(ConfigMap, r.Name)
		}
		if r := v.ValueFrom.SecretKeyRef; r != nil {
			add(Secret, r.Name)
		}
	}
}

func volumeRefs(v corev1.VolumeSource, add func(Kind, string)) {
	switch {
	case v.ConfigMap != nil:
		add(ConfigMap, v.ConfigMap.Name)
	case v.Secret != nil:
		add(Secret, v.Secret.SecretName)
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if s.ConfigMap != nil {
				add(ConfigMap, s.ConfigMap.Name)
			}
			if s.Secret != nil {
				add(Secret, s.Secret.Name)
			}
			if b := s.ClusterTrustBundle; b != nil {
				switch {
				case b.Name != nil:
					add(TrustBundle, *b.Name)
				case b.SignerName != nil:
					add(SignerBundles, *b.SignerName)
				}
			}
			if s.PodCertificate != nil {
				add(CertificateRequests, "")
			}
		}
	}
}
