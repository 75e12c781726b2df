package podspec

import corev1 "k8s.io/api/core/v1"

// dropAlpha takes out the fields whose feature gates are off by default in Kubernetes 1.37: as there, they are accepted and
// have no effect, and nobody who reads the object back is told otherwise.
func dropAlpha(s *corev1.PodSpec) {
	s.SchedulingGroup = nil    // GenericWorkload
	s.EvictionResponders = nil // EvictionRequestAPI
	for i := range s.Volumes {
		dropUsers(&s.Volumes[i].VolumeSource)
		if dir := s.Volumes[i].EmptyDir; dir != nil {
			dir.Mode = nil // EmptyDirVolumeMode
		}
	}
	for _, containers := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range containers {
			c := &containers[i]
			dropMountOptions(c.VolumeMounts)
			for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
				dropProtocols(p)
			}
		}
	}
	for i := range s.EphemeralContainers {
		dropMountOptions(s.EphemeralContainers[i].VolumeMounts)
	}
}

// dropProtocols: H2CContainerProbe and GRPCContainerProbeTLS.
func dropProtocols(p *corev1.Probe) {
	if p != nil && p.HTTPGet != nil {
		p.HTTPGet.Protocol = nil
	}
	if p != nil && p.GRPC != nil {
		p.GRPC.Mode = nil
	}
}

// dropMountOptions: VolumeBindMountOptions.
func dropMountOptions(mounts []corev1.VolumeMount) {
	for i := range mounts {
		mounts[i].BindMountOptions = nil
	}
}

// dropUsers: AtomicWriteVolumeUserFields.
func dropUsers(v *corev1.VolumeSource) {
	if v.Secret != nil {
		v.Secret.DefaultUser = nil
		dropKeyUsers(v.Secret.Items)
	}
	if v.ConfigMap != nil {
		v.ConfigMap.DefaultUser = nil
		dropKeyUsers(v.ConfigMap.Items)
	}
	if v.DownwardAPI != nil {
		v.DownwardAPI.DefaultUser = nil
		dropFileUsers(v.DownwardAPI.Items)
	}
	if v.Projected == nil {
		return
	}
	v.Projected.DefaultUser = nil
	for i := range v.Projected.Sources {
		s := &v.Projected.Sources[i]
		if s.Secret != nil {
			dropKeyUsers(s.Secret.Items)
		}
		if s.ConfigMap != nil {
			dropKeyUsers(s.ConfigMap.Items)
		}
		if s.DownwardAPI != nil {
			dropFileUsers(s.DownwardAPI.Items)
		}
		if s.ServiceAccountToken != nil {
			s.ServiceAccountToken.User = nil
		}
		if s.ClusterTrustBundle != nil {
			s.ClusterTrustBundle.User = nil
		}
		if s.PodCertificate != nil {
			s.PodCertificate.User = nil
		}
	}
}

func dropKeyUsers(items []corev1.KeyToPath) {
	for i := range items {
		items[i].User = nil
	}
}

func dropFileUsers(items []corev1.DownwardAPIVolumeFile) {
	for i := range items {
		items[i].User = nil
	}
}
