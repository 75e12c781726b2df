package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Annotations by which static pods, and their mirrors in the API, are known.
const (
	// HashAnnotation is the pod's UID on its node; in a mirror pod it tells which manifest it shows.
	HashAnnotation = "kubernetes.io/config.hash"
	// SourceAnnotation says where a pod comes from; FileSource is its value for static pods.
	SourceAnnotation = "kubernetes.io/config.source"
	FileSource       = "file"
)

// SizeLimit bounds a manifest: the API server takes no larger request either, so no larger pod could be mirrored.
const SizeLimit = 3 << 20

// ErrInvalid: a file is not a static pod's manifest.
var ErrInvalid = errors.New("invalid manifest")

func invalidf(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
}

// Parse reads a static pod of a node from a file's content. Its errors match [ErrInvalid].
func Parse(data []byte, node string) (*corev1.Pod, error) {
	if len(data) > SizeLimit {
		return nil, invalidf("it is larger than %d bytes", SizeLimit)
	}
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(data, &kind); err != nil {
		return nil, invalidf("%w", err)
	}
	if kind.APIVersion != "v1" || kind.Kind != "Pod" {
		return nil, invalidf("it holds a %q of %q, want a Pod of v1", kind.Kind, kind.APIVersion)
	}
	p, err := decode(data)
	if err != nil {
		return nil, err
	}
	if p.Name == "" {
		return nil, invalidf("metadata.name is missing")
	}
	identify(p, data, node)
	setDefaults(&p.Spec)
	if err := check(p); err != nil {
		return nil, err
	}
	return p, nil
}

// decode reads YAML, of which JSON is a part, and names every field that a pod does not have or that is there twice.
func decode(data []byte) (*corev1.Pod, error) {
	text, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return nil, invalidf("%w", err)
	}
	p := &corev1.Pod{}
	strict, err := json.UnmarshalStrict(text, p)
	if err == nil {
		err = errors.Join(strict...)
	}
	if err != nil {
		return nil, invalidf("%w", err)
	}
	return p, nil
}

// identify gives a pod what the API server would have given it, or what tells it from pods of the API.
func identify(p *corev1.Pod, data []byte, node string) {
	sum := sha256.Sum256([]byte(node + "\x00" + string(data)))
	const digits = 32 // 128 bits, as a UUID has
	uid := hex.EncodeToString(sum[:])[:digits]
	p.Name, p.GenerateName = p.Name+"-"+strings.ToLower(node), ""
	if p.Namespace == "" {
		p.Namespace = metav1.NamespaceDefault
	}
	p.UID, p.Generation, p.ResourceVersion = types.UID(uid), 1, ""
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds, p.OwnerReferences, p.Finalizers, p.ManagedFields = nil, nil, nil, nil, nil
	if p.Annotations == nil {
		p.Annotations = map[string]string{}
	}
	delete(p.Annotations, corev1.MirrorPodAnnotationKey)
	p.Annotations[HashAnnotation], p.Annotations[SourceAnnotation] = uid, FileSource
	p.Spec.NodeName = node
	p.Status = corev1.PodStatus{}
	everything := corev1.Toleration{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}
	for _, t := range p.Spec.Tolerations {
		if equality.Semantic.DeepEqual(t, everything) {
			return
		}
	}
	p.Spec.Tolerations = append(p.Spec.Tolerations, everything)
}

// IsMirror says whether a pod of the API stands for a static one.
func IsMirror(p *corev1.Pod) bool {
	_, ok := p.Annotations[corev1.MirrorPodAnnotationKey]
	return ok
}

// check refuses what cannot be run. It is not the API server's whole validation: what it lets through fails where it is
// used, with the reason in the pod's status.
func check(p *corev1.Pod) error {
	if problems := validation.IsDNS1123Subdomain(p.Name); len(problems) > 0 {
		return invalidf("metadata.name %q (with the node's): %s", p.Name, strings.Join(problems, "; "))
	}
	if problems := validation.IsDNS1123Label(p.Namespace); len(problems) > 0 {
		return invalidf("metadata.namespace %q: %s", p.Namespace, strings.Join(problems, "; "))
	}
	if len(p.Spec.Containers) == 0 {
		return invalidf("spec.containers is empty")
	}
	if len(p.Spec.EphemeralContainers) > 0 {
		return invalidf("spec.ephemeralContainers: a static pod cannot have ephemeral containers")
	}
	if ref := reference(&p.Spec); ref != "" {
		return invalidf("static pods may not reference %s", ref)
	}
	return checkContainers(&p.Spec)
}

func checkContainers(s *corev1.PodSpec) error {
	volumes, names := map[string]bool{}, map[string]bool{}
	for i, v := range s.Volumes {
		if problems := validation.IsDNS1123Label(v.Name); len(problems) > 0 || volumes[v.Name] {
			return invalidf("spec.volumes[%d].name %q: want a DNS label that no other volume has", i, v.Name)
		}
		volumes[v.Name] = true
	}
	for at, list := range map[string][]corev1.Container{"initContainers": s.InitContainers, "containers": s.Containers} {
		for i, c := range list {
			if problems := validation.IsDNS1123Label(c.Name); len(problems) > 0 || names[c.Name] {
				return invalidf("spec.%s[%d].name %q: want a DNS label that no other container has", at, i, c.Name)
			}
			names[c.Name] = true
			if c.Image == "" {
				return invalidf("spec.%s[%d].image is missing", at, i)
			}
			for _, m := range c.VolumeMounts {
				if !volumes[m.Name] || m.MountPath == "" {
					return invalidf("spec.%s[%d].volumeMounts: %q at %q: no such volume, or no path", at, i, m.Name, m.MountPath)
				}
			}
		}
	}
	return nil
}

// reference names the API objects that a static pod refers to; it must run without an API server, and nobody has granted it
// anything there. Empty if there are none.
func reference(s *corev1.PodSpec) string {
	switch {
	case s.ServiceAccountName != "" || s.DeprecatedServiceAccount != "":
		return "serviceaccounts"
	case len(s.ImagePullSecrets) > 0:
		return "secrets"
	case len(s.ResourceClaims) > 0:
		return "resourceclaims"
	}
	for _, v := range s.Volumes {
		switch {
		case v.ConfigMap != nil:
			return "configmaps"
		case v.Secret != nil:
			return "secrets"
		case v.PersistentVolumeClaim != nil || v.Ephemeral != nil:
			return "persistentvolumeclaims"
		case v.CSI != nil:
			return "csidrivers"
		case v.Projected != nil:
			for _, source := range v.Projected.Sources {
				switch {
				case source.ConfigMap != nil:
					return "configmaps"
				case source.Secret != nil:
					return "secrets"
				case source.ServiceAccountToken != nil:
					return "serviceaccounts"
				case source.ClusterTrustBundle != nil:
					return "clustertrustbundles"
				case source.PodCertificate != nil:
					return "podcertificaterequests"
				}
			}
		}
	}
	for _, list := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range list {
			if ref := envReference(&list[i]); ref != "" {
				return ref
			}
		}
	}
	return ""
}

func envReference(c *corev1.Container) string {
	for _, f := range c.EnvFrom {
		if f.ConfigMapRef != nil {
			return "configmaps"
		}
		if f.SecretRef != nil {
			return "secrets"
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom != nil && e.ValueFrom.ConfigMapKeyRef != nil {
			return "configmaps"
		}
		if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
			return "secrets"
		}
	}
	return ""
}
