package admission

import corev1 "k8s.io/api/core/v1"

// Reference is an object that a pod uses, by resource and name, in the pod's namespace.
type Reference struct{ Resource, Name string }

// PodReferences returns every secret, configmap, claim and service account that a pod's specification names.
func PodReferences(pod *corev1.Pod) []Reference {
	var refs []Reference
	add := func(resource, name string) {
		if name != "" {
			refs = append(refs, Reference{resource, name})
		}
	}
	s := &pod.Spec
	add("serviceaccounts", s.ServiceAccountName)
	for _, p := range s.ImagePullSecrets {
		add("secrets", p.Name)
	}
	for i := range s.Volumes {
		volumeReferences(pod.Name, &s.Volumes[i], add)
	}
	for _, list := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range list {
			envReferences(list[i].Env, list[i].EnvFrom, add)
		}
	}
	for i := range s.ResourceClaims {
		if name := s.ResourceClaims[i].ResourceClaimName; name != nil {
			add("resourceclaims", *name)
		}
	}
	for _, made := range pod.Status.ResourceClaimStatuses {
		if made.ResourceClaimName != nil {
			add("resourceclaims", *made.ResourceClaimName)
		}
	}
	if made := pod.Status.ExtendedResourceClaimStatus; made != nil {
		add("resourceclaims", made.ResourceClaimName)
	}
	for i := range s.EphemeralContainers {
		envReferences(s.EphemeralContainers[i].Env, s.EphemeralContainers[i].EnvFrom, add)
	}
	return refs
}

func envReferences(env []corev1.EnvVar, from []corev1.EnvFromSource, add func(resource, name string)) {
	for _, e := range env {
		if e.ValueFrom == nil {
			continue
		}
		if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
			add("configmaps", r.Name)
		}
		if r := e.ValueFrom.SecretKeyRef; r != nil {
			add("secrets", r.Name)
		}
	}
	for _, f := range from {
		if f.ConfigMapRef != nil {
			add("configmaps", f.ConfigMapRef.Name)
		}
		if f.SecretRef != nil {
			add("secrets", f.SecretRef.Name)
		}
	}
}

func volumeReferences(pod string, v *corev1.Volume, add func(resource, name string)) {
	switch {
	case v.Secret != nil:
		add("secrets", v.Secret.SecretName)
	case v.ConfigMap != nil:
		add("configmaps", v.ConfigMap.Name)
	case v.PersistentVolumeClaim != nil:
		add("persistentvolumeclaims", v.PersistentVolumeClaim.ClaimName)
	case v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil:
		add("persistentvolumeclaims", pod+"-"+v.Name) // the name that the claim is made with
	case v.Projected != nil:
		for _, src := range v.Projected.Sources {
			if src.Secret != nil {
				add("secrets", src.Secret.Name)
			}
			if src.ConfigMap != nil {
				add("configmaps", src.ConfigMap.Name)
			}
		}
	case v.CSI != nil && v.CSI.NodePublishSecretRef != nil:
		add("secrets", v.CSI.NodePublishSecretRef.Name)
	case v.AzureFile != nil:
		add("secrets", v.AzureFile.SecretName)
	case v.CephFS != nil && v.CephFS.SecretRef != nil:
		add("secrets", v.CephFS.SecretRef.Name)
	case v.RBD != nil && v.RBD.SecretRef != nil:
		add("secrets", v.RBD.SecretRef.Name)
	case v.ISCSI != nil && v.ISCSI.SecretRef != nil:
		add("secrets", v.ISCSI.SecretRef.Name)
	case v.FlexVolume != nil && v.FlexVolume.SecretRef != nil:
		add("secrets", v.FlexVolume.SecretRef.Name)
	}
}
