package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
)

// checkVolumes checks the pod's volumes and keeps the valid ones for the containers to refer to.
func (s *scope) checkVolumes(at *field.Path) {
	// The claims that will be made for generic ephemeral volumes are nobody else's to mount.
	made := sets.New[string]()
	if s.meta != nil && s.meta.Name != "" {
		for _, v := range s.spec.Volumes {
			if v.Ephemeral != nil {
				made.Insert(s.meta.Name + "-" + v.Name)
			}
		}
	}
	for i := range s.spec.Volumes {
		v, here := &s.spec.Volumes[i], at.Index(i)
		before := len(s.List)
		s.checkVolumeSource(v, here)
		s.RequiredLabel(here.Child("name"), v.Name)
		if _, taken := s.volumes[v.Name]; taken {
			s.Duplicate(here.Child("name"), v.Name)
		}
		if len(s.List) == before {
			s.volumes[v.Name] = &v.VolumeSource
		}
		if v.PersistentVolumeClaim != nil && made.Has(v.PersistentVolumeClaim.ClaimName) {
			s.Invalid(here.Child("persistentVolumeClaim", "claimName"), v.PersistentVolumeClaim.ClaimName,
				"must not reference a PVC that gets created for an ephemeral volume")
		}
	}
}

func (s *scope) checkVolumeSource(v *corev1.Volume, at *field.Path) {
	one := oneSource{Errors: s.Errors, at: at}
	src := &v.VolumeSource
	if src.EmptyDir != nil {
		one.count++
		if src.EmptyDir.SizeLimit != nil && src.EmptyDir.SizeLimit.Sign() < 0 {
			s.Forbidden(at.Child("emptyDir", "sizeLimit"), "SizeLimit field must be a valid resource quantity")
		}
	}
	one.take(src.HostPath != nil, "hostPath", func(at *field.Path) { ValidateHostPath(s.Errors, src.HostPath, at) })
	one.take(src.GitRepo != nil, "gitRepo", func(at *field.Path) {
		s.Present(at.Child("repository"), src.GitRepo.Repository)
		s.RelativePath(at.Child("directory"), src.GitRepo.Directory)
	})
	one.take(src.Secret != nil, "secret", func(at *field.Path) {
		s.Present(at.Child("secretName"), src.Secret.SecretName)
		s.FileMode(at.Child("defaultMode"), src.Secret.DefaultMode)
		s.checkItems(src.Secret.Items, at.Child("items"))
	})
	s.checkNetworkStorage(&one, v)
	one.take(src.PersistentVolumeClaim != nil, "persistentVolumeClaim", func(at *field.Path) {
		s.Present(at.Child("claimName"), src.PersistentVolumeClaim.ClaimName)
	})
	one.take(src.DownwardAPI != nil, "downwardAPI", func(at *field.Path) {
		s.FileMode(at.Child("defaultMode"), src.DownwardAPI.DefaultMode)
		for i := range src.DownwardAPI.Items {
			s.checkDownwardFile(&src.DownwardAPI.Items[i], at)
		}
	})
	one.take(src.ConfigMap != nil, "configMap", func(at *field.Path) {
		s.Present(at.Child("name"), src.ConfigMap.Name)
		s.FileMode(at.Child("defaultMode"), src.ConfigMap.DefaultMode)
		s.checkItems(src.ConfigMap.Items, at.Child("items"))
	})
	one.take(src.Projected != nil, "projected", func(at *field.Path) { s.checkProjected(src.Projected, at) })
	one.take(src.CSI != nil, "csi", func(at *field.Path) {
		ValidateDriverName(s.Errors, src.CSI.Driver, at.Child("driver"))
		if ref := src.CSI.NodePublishSecretRef; ref != nil {
			if s.Present(at.Child("nodePublishSecretRef", "name"), ref.Name) {
				s.Name(at.Child("name"), ref.Name, apivalidation.NameIsDNSSubdomain)
			}
		}
	})
	one.take(src.Ephemeral != nil, "ephemeral", func(at *field.Path) { s.checkEphemeralVolume(v, at) })
	one.take(src.Image != nil, "image", func(at *field.Path) {
		if s.meta != nil {
			s.Present(at.Child("reference"), src.Image.Reference)
		}
		check.OneOf(s.Errors, at.Child("pullPolicy"), src.Image.PullPolicy, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
	})
	if one.count == 0 {
		s.Required(at, "must specify a volume type")
	}
}

// oneSource holds a volume to one source: the first is looked into, further ones are forbidden.
type oneSource struct {
	*check.Errors
	at    *field.Path
	count int
}

func (o *oneSource) take(set bool, name string, look func(at *field.Path)) {
	if !set {
		return
	}
	if o.count++; o.count > 1 {
		o.Forbidden(o.at.Child(name), "may not specify more than 1 volume type")
		return
	}
	look(o.at.Child(name))
}

// ValidateHostPath checks a directory or file of the node.
func ValidateHostPath(e *check.Errors, h *corev1.HostPathVolumeSource, at *field.Path) {
	if !e.Present(at.Child("path"), h.Path) {
		return
	}
	e.NoBacksteps(at.Child("path"), h.Path)
	if h.Type != nil {
		check.Supported(e, at.Child("type"), *h.Type, corev1.HostPathUnset, corev1.HostPathBlockDev, corev1.HostPathCharDev,
			corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate, corev1.HostPathFile, corev1.HostPathFileOrCreate, corev1.HostPathSocket)
	}
}

// ValidateDriverName checks the name of a CSI driver.
func ValidateDriverName(e *check.Errors, name string, at *field.Path) {
	const longest = 63
	e.Present(at, name)
	if len(name) > longest {
		e.Add(field.TooLong(at, name, longest))
	}
	e.Each(at, name, apivalidation.NameIsDNSSubdomain(strings.ToLower(name), false))
}

func (s *scope) checkItems(items []corev1.KeyToPath, at *field.Path) {
	for i := range items {
		s.checkItem(&items[i], at.Index(i))
	}
}

func (s *scope) checkItem(item *corev1.KeyToPath, at *field.Path) {
	s.Present(at.Child("key"), item.Key)
	s.Present(at.Child("path"), item.Path)
	s.VolumePath(at.Child("path"), item.Path)
	s.FileMode(at.Child("mode"), item.Mode)
}

// checkDownwardFile reports at the list and not at its element, as kube-apiserver does.
func (s *scope) checkDownwardFile(f *corev1.DownwardAPIVolumeFile, at *field.Path) {
	s.Present(at.Child("path"), f.Path)
	s.VolumePath(at.Child("path"), f.Path)
	switch {
	case f.FieldRef != nil:
		s.checkFieldRef(f.FieldRef, volumeFieldPaths, at.Child("fieldRef"))
		if f.ResourceFieldRef != nil {
			s.Invalid(at, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
		}
	case f.ResourceFieldRef != nil:
		s.checkResourceFieldRef(f.ResourceFieldRef, true, at.Child("resourceFieldRef"))
	default:
		s.Required(at, "one of fieldRef and resourceFieldRef is required")
	}
	s.FileMode(at.Child("mode"), f.Mode)
}

func (s *scope) checkProjected(p *corev1.ProjectedVolumeSource, at *field.Path) {
	s.FileMode(at.Child("defaultMode"), p.DefaultMode)
	paths := sets.New[string]()
	claim := func(path string, value string) {
		if path == "" {
			return
		}
		if paths.Has(path) {
			s.Invalid(at, value, "conflicting duplicate paths")
		}
		paths.Insert(path)
	}
	for i := range p.Sources {
		src, here := &p.Sources[i], at.Child("sources").Index(i)
		n := 0
		if src.Secret != nil {
			n++
			s.checkKeysProjection(src.Secret.Name, src.Secret.Items, claim, here.Child("secret"))
		}
		if src.ConfigMap != nil {
			n++
			s.checkKeysProjection(src.ConfigMap.Name, src.ConfigMap.Items, claim, here.Child("configMap"))
		}
		if src.DownwardAPI != nil {
			n++
			for j := range src.DownwardAPI.Items {
				f := &src.DownwardAPI.Items[j]
				s.checkDownwardFile(f, here.Child("downwardAPI"))
				claim(f.Path, f.Path)
			}
		}
		if src.ServiceAccountToken != nil {
			n++
			s.checkTokenProjection(src.ServiceAccountToken, at, here.Child("serviceAccountToken"))
		}
		if src.ClusterTrustBundle != nil {
			n++
			s.checkTrustBundleProjection(src.ClusterTrustBundle, here.Child("clusterTrustBundle"))
			claim(src.ClusterTrustBundle.Path, src.ClusterTrustBundle.Path)
		}
		if src.PodCertificate != nil {
			n++
			s.checkCertificateProjection(src.PodCertificate, claim, here.Child("podCertificate"))
		}
		if n > 1 {
			s.Forbidden(here, "may not specify more than 1 volume type per source")
		}
	}
}

func (s *scope) checkKeysProjection(name string, items []corev1.KeyToPath, claim func(path, value string), at *field.Path) {
	s.Present(at.Child("name"), name)
	for i := range items {
		s.checkItem(&items[i], at.Child("items").Index(i))
		claim(items[i].Path, name)
	}
}

// The bounds of a projected token's life, in seconds.
const (
	minTokenSeconds = 10 * 60
	maxTokenSeconds = 1 << 32
)

func (s *scope) checkTokenProjection(t *corev1.ServiceAccountTokenProjection, volume, at *field.Path) {
	if t.ExpirationSeconds != nil {
		if *t.ExpirationSeconds < minTokenSeconds {
			s.Invalid(at.Child("expirationSeconds"), *t.ExpirationSeconds, "may not specify a duration less than 10 minutes")
		}
		if *t.ExpirationSeconds > maxTokenSeconds {
			s.Invalid(at.Child("expirationSeconds"), *t.ExpirationSeconds, "may not specify a duration larger than 2^32 seconds")
		}
	}
	if s.Present(volume.Child("path"), t.Path) {
		s.VolumePath(volume.Child("path"), t.Path)
	}
}

func (s *scope) checkTrustBundleProjection(b *corev1.ClusterTrustBundleProjection, at *field.Path) {
	switch {
	case b.Name != nil && b.SignerName != nil:
		s.Invalid(at, b, "only one of name and signerName may be used")
	case b.Name != nil:
		if *b.Name == "" {
			s.Required(at.Child("name"), "must be a valid object name")
		}
		for _, msg := range trustBundleName(*b.Name) {
			s.Invalid(at.Child("name"), *b.Name, "not a valid clustertrustbundlename: "+msg)
		}
		if b.LabelSelector != nil {
			s.Invalid(at.Child("labelSelector"), b.LabelSelector, "labelSelector must be unset if name is specified")
		}
	case b.SignerName != nil:
		if *b.SignerName == "" {
			s.Required(at.Child("signerName"), "must be a valid signer name")
		}
		ValidateSignerName(s.Errors, *b.SignerName, at.Child("signerName"))
		s.Selector(at.Child("labelSelector"), b.LabelSelector)
	default:
		s.Required(at, "either name or signerName must be specified")
	}
	s.Present(at.Child("path"), b.Path)
	s.VolumePath(at.Child("path"), b.Path)
}

// checkMaxExpiration checks for how long a certificate may be asked for, which is less of a signer of Kubernetes' own.
func (s *scope) checkMaxExpiration(c *corev1.PodCertificateProjection, at *field.Path) {
	const hour, day = 60 * 60, 24 * 60 * 60
	longest := int32(91 * day)
	if domain, _, _ := strings.Cut(c.SignerName, "/"); domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io") {
		longest = day
	}
	switch m := c.MaxExpirationSeconds; {
	case m == nil:
	case *m < hour:
		s.Invalid(at, *m, fmt.Sprintf("if provided, maxExpirationSeconds must be >= %d", hour))
	case *m > longest:
		s.Invalid(at, *m, fmt.Sprintf("if provided, maxExpirationSeconds must be <= %d", longest))
	}
}

func (s *scope) checkCertificateProjection(c *corev1.PodCertificateProjection, claim func(path, value string), at *field.Path) {
	ValidateSignerName(s.Errors, c.SignerName, at.Child("signerName"))
	check.Supported(s.Errors, at.Child("keyType"), c.KeyType, "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072", "RSA4096")
	s.checkMaxExpiration(c, at.Child("maxExpirationSeconds"))
	n := 0
	for name, path := range map[string]string{
		"credentialBundlePath": c.CredentialBundlePath, "keyPath": c.KeyPath, "certificateChainPath": c.CertificateChainPath,
	} {
		if path != "" {
			n++
			s.VolumePath(at.Child(name), path)
			claim(path, path)
		}
	}
	if n == 0 {
		s.Required(at, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath")
	}
	s.Annotations(at.Child("userAnnotations"), c.UserAnnotations)
	for key := range c.UserAnnotations {
		if !strings.Contains(key, "/") {
			s.Invalid(at.Child("userAnnotations"), key, "all keys must be domain-prefixed")
		}
	}
}

func (s *scope) checkEphemeralVolume(v *corev1.Volume, at *field.Path) {
	if t := v.Ephemeral.VolumeClaimTemplate; t == nil {
		s.Required(at.Child("volumeClaimTemplate"), "")
	} else {
		here := at.Child("volumeClaimTemplate")
		s.Annotations(here.Child("metadata", "annotations"), t.Annotations)
		s.Labels(here.Child("metadata", "labels"), t.Labels)
		ForbidOtherMeta(s.Errors, &t.ObjectMeta, here.Child("metadata"))
		ValidateClaimSpec(s.Errors, &t.Spec, here.Child("spec"))
	}
	if s.meta == nil || s.meta.Name == "" || v.Name == "" {
		return
	}
	claim := s.meta.Name + "-" + v.Name
	for _, msg := range apivalidation.NameIsDNSSubdomain(claim, false) {
		s.Invalid(at.Child("name"), v.Name, fmt.Sprintf("PVC name %q: %v", claim, msg))
	}
}
