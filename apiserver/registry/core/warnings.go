package core

import (
	"crypto/tls"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/podspec"
)

// serviceWarnings are kube-apiserver's for a Service: deprecated fields, and those that its type ignores.
func serviceWarnings(s *corev1.Service) []string {
	var list []string
	at := field.NewPath("spec")
	warn := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	if _, ok := s.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]; ok {
		warn("annotation %s is deprecated, please use %s instead", corev1.DeprecatedAnnotationTopologyAwareHints, corev1.AnnotationTopologyMode)
	}
	headless := s.Spec.Type == corev1.ServiceTypeClusterIP && s.Spec.ClusterIP == corev1.ClusterIPNone
	if s.Spec.ClusterIP != "" && s.Spec.ClusterIP != corev1.ClusterIPNone {
		for i, ip := range s.Spec.ClusterIPs {
			list = append(list, validation.GetWarningsForIP(at.Child("clusterIPs").Index(i), ip)...)
		}
	}
	if headless {
		if s.Spec.LoadBalancerIP != "" {
			warn("spec.loadBalancerIP is ignored for headless services")
		}
		if len(s.Spec.ExternalIPs) > 0 {
			warn("spec.externalIPs is ignored for headless services")
		}
		if s.Spec.SessionAffinity != corev1.ServiceAffinityNone {
			warn("spec.SessionAffinity is ignored for headless services")
		}
	}
	for i, ip := range s.Spec.ExternalIPs {
		list = append(list, validation.GetWarningsForIP(at.Child("externalIPs").Index(i), ip)...)
	}
	if len(s.Spec.ExternalIPs) > 0 && !headless && s.Spec.Type != corev1.ServiceTypeExternalName {
		warn("spec.externalIPs is deprecated and may no longer be implemented in some clusters")
	}
	if s.Spec.LoadBalancerIP != "" {
		list = append(list, validation.GetWarningsForIP(at.Child("loadBalancerIP"), s.Spec.LoadBalancerIP)...)
	}
	for i, cidr := range s.Spec.LoadBalancerSourceRanges {
		list = append(list, validation.GetWarningsForCIDR(at.Child("loadBalancerSourceRanges").Index(i), cidr)...)
	}
	external := s.Spec.Type == corev1.ServiceTypeExternalName
	if external && len(s.Spec.ExternalIPs) > 0 {
		warn("spec.externalIPs is ignored when spec.type is %q", corev1.ServiceTypeExternalName)
	}
	if !external && s.Spec.ExternalName != "" {
		warn("spec.externalName is ignored when spec.type is not %q", corev1.ServiceTypeExternalName)
	}
	if d := s.Spec.TrafficDistribution; d != nil && *d == corev1.ServiceTrafficDistributionPreferClose {
		warn("spec.trafficDistribution: %q is deprecated; use %q", corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone)
	}
	return list
}

// classAnnotationWarning is about the annotation from before storageClassName.
func classAnnotationWarning(annotations map[string]string) []string {
	if _, ok := annotations[betaStorageClass]; !ok {
		return nil
	}
	return []string{fmt.Sprintf("%s: deprecated since v1.8; use \"storageClassName\" attribute instead", field.NewPath("metadata", "annotations").Key(betaStorageClass))}
}

func claimWarnings(c *corev1.PersistentVolumeClaim) []string {
	return append(classAnnotationWarning(c.Annotations), podspec.ClaimWarnings(&c.Spec, field.NewPath("spec"))...)
}

func volumeWarnings(v *corev1.PersistentVolume) []string {
	list := classAnnotationWarning(v.Annotations)
	at := field.NewPath("spec")
	if v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		list = append(list, at.Child("persistentVolumeReclaimPolicy").String()+
			": The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.")
	}
	if a := v.Spec.NodeAffinity; a != nil && a.Required != nil {
		list = append(list, podspec.SelectorWarnings(a.Required, at.Child("nodeAffinity", "required"))...)
	}
	for _, p := range []struct {
		name, since string
		set         bool
	}{
		{"photonPersistentDisk", "v1.11, non-functional in v1.16+", v.Spec.PhotonPersistentDisk != nil},
		{"scaleIO", "v1.16, non-functional in v1.22+", v.Spec.ScaleIO != nil},
		{"storageOS", "v1.22, non-functional in v1.25+", v.Spec.StorageOS != nil},
		{"glusterfs", "v1.25, non-functional in v1.26+", v.Spec.Glusterfs != nil},
		{"cephfs", "v1.28, non-functional in v1.31+", v.Spec.CephFS != nil},
		{"rbd", "v1.28, non-functional in v1.31+", v.Spec.RBD != nil},
	} {
		if p.set {
			list = append(list, fmt.Sprintf("%s: deprecated in %s", at.Child(p.name), p.since))
		}
	}
	return list
}

// nodeWarnings are about fields of the past, and about networks in forms that are read in more than one way.
func nodeWarnings(n *corev1.Node) []string {
	var list []string
	if n.Spec.ConfigSource != nil {
		list = append(list, "spec.configSource: the feature is removed")
	}
	if n.Spec.DoNotUseExternalID != "" {
		list = append(list, "spec.externalID: this field is deprecated, and is unused by Kubernetes")
	}
	for i, cidr := range n.Spec.PodCIDRs {
		list = append(list, validation.GetWarningsForCIDR(field.NewPath("spec", "podCIDRs").Index(i), cidr)...)
	}
	return list
}

// secretWarnings are about a certificate and a key that are not each other's.
func secretWarnings(s *corev1.Secret) []string {
	if s.Type != corev1.SecretTypeTLS {
		return nil
	}
	if _, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey]); err != nil {
		return []string{err.Error()}
	}
	return nil
}

// endpointsWarnings are about the kind, and about addresses in forms that are read in more than one way.
func endpointsWarnings(ep *corev1.Endpoints) []string {
	list := []string{"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"}
	of := func(addresses []corev1.EndpointAddress, at *field.Path) {
		for i := range addresses {
			list = append(list, validation.GetWarningsForIP(at.Index(i).Child("ip"), addresses[i].IP)...)
		}
	}
	for i := range ep.Subsets {
		at := field.NewPath("subsets").Index(i)
		of(ep.Subsets[i].Addresses, at.Child("addresses"))
		of(ep.Subsets[i].NotReadyAddresses, at.Child("notReadyAddresses"))
	}
	return list
}

// accountWarnings are about the annotation that bound a pod to its account's secrets.
func accountWarnings(a *corev1.ServiceAccount) []string {
	const enforce = "kubernetes.io/enforce-mountable-secrets"
	if _, ok := a.Annotations[enforce]; !ok {
		return nil
	}
	return []string{fmt.Sprintf("%s: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets", field.NewPath("metadata", "annotations").Key(enforce))}
}
