package volume

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/kubelet/runspec"
)

// file is one file of a volume.
type file struct {
	data []byte
	mode os.FileMode
	// uid, if set, owns the file; otherwise root does.
	uid *int64
}

// payload is a volume's files by their path in it.
type payload map[string]file

// filePlugin names the plug-in of a volume that is made of files; empty for others.
func filePlugin(v *corev1.Volume) string {
	switch {
	case v.ConfigMap != nil:
		return pluginConfigMap
	case v.Secret != nil:
		return pluginSecret
	case v.DownwardAPI != nil:
		return pluginDownward
	case v.Projected != nil:
		return pluginProjected
	}
	return ""
}

// mountFiles makes a volume of files, or brings it up to date.
func (m *Manager) mountFiles(ctx context.Context, s *podState, p *corev1.Pod, v *corev1.Volume) error {
	files, err := m.collect(ctx, s, p, v)
	if err != nil {
		return err
	}
	dir := m.dir(p.UID, filePlugin(v), v.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if v.Secret != nil || v.Projected != nil {
		if err := mountTmpfs(dir, 0); err != nil {
			return err
		}
	}
	if err := os.Chmod(dir, emptyDirMode); err != nil {
		return err
	}
	return writeAtomically(dir, files, fsGroup(p))
}

// collect gathers what a volume is to contain.
func (m *Manager) collect(ctx context.Context, s *podState, p *corev1.Pod, v *corev1.Volume) (payload, error) {
	c := collector{m: m, ctx: ctx, state: s, pod: p, volume: v.Name, files: payload{}}
	switch {
	case v.ConfigMap != nil:
		return c.files, c.configMap(v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.DefaultMode, v.ConfigMap.Optional)
	case v.Secret != nil:
		return c.files, c.secret(v.Secret.SecretName, v.Secret.Items, v.Secret.DefaultMode, v.Secret.Optional)
	case v.DownwardAPI != nil:
		return c.files, c.downward(v.DownwardAPI.Items, v.DownwardAPI.DefaultMode)
	}
	for i := range v.Projected.Sources {
		if err := c.source(&v.Projected.Sources[i], v.Projected.DefaultMode); err != nil {
			return nil, err
		}
	}
	return c.files, nil
}

// collector gathers the files of one volume.
type collector struct {
	m      *Manager
	ctx    context.Context
	state  *podState
	pod    *corev1.Pod
	volume string
	files  payload
}

func (c *collector) source(s *corev1.VolumeProjection, mode *int32) error {
	switch {
	case s.ConfigMap != nil:
		return c.configMap(s.ConfigMap.Name, s.ConfigMap.Items, mode, s.ConfigMap.Optional)
	case s.Secret != nil:
		return c.secret(s.Secret.Name, s.Secret.Items, mode, s.Secret.Optional)
	case s.DownwardAPI != nil:
		return c.downward(s.DownwardAPI.Items, mode)
	case s.ServiceAccountToken != nil:
		return c.token(s.ServiceAccountToken, mode)
	case s.ClusterTrustBundle != nil && c.m.c.Trust != nil:
		return c.trustBundle(s.ClusterTrustBundle, mode)
	case s.PodCertificate != nil && c.m.c.Trust != nil:
		return c.certificate(s.PodCertificate, mode)
	}
	return fmt.Errorf("%w for a projected source", ErrUnsupported)
}

func (c *collector) configMap(name string, items []corev1.KeyToPath, mode *int32, optional *bool) error {
	obj, err := c.m.c.Sources.ConfigMap(c.ctx, c.pod.Namespace, name)
	if err != nil {
		if apierrors.IsNotFound(err) && isTrue(optional) {
			return nil
		}
		return err
	}
	values := map[string][]byte{}
	for k, v := range obj.Data {
		values[k] = []byte(v)
	}
	for k, v := range obj.BinaryData {
		values[k] = v
	}
	return c.keys(values, items, mode, optional, "configmap references non-existent config key: %s")
}

func (c *collector) secret(name string, items []corev1.KeyToPath, mode *int32, optional *bool) error {
	obj, err := c.m.c.Sources.Secret(c.ctx, c.pod.Namespace, name)
	if err != nil {
		if apierrors.IsNotFound(err) && isTrue(optional) {
			return nil
		}
		return err
	}
	return c.keys(obj.Data, items, mode, optional, "references non-existent secret key: %s")
}

// keys adds all values under their keys, or those that items name under their paths.
func (c *collector) keys(values map[string][]byte, items []corev1.KeyToPath, mode *int32, optional *bool, missing string) error {
	if len(items) == 0 {
		for k, v := range values {
			c.files[k] = file{data: v, mode: fileMode(nil, mode)}
		}
		return nil
	}
	for _, item := range items {
		v, ok := values[item.Key]
		if !ok {
			if isTrue(optional) {
				continue
			}
			return fmt.Errorf(missing, item.Key)
		}
		if err := c.add(item.Path, file{data: v, mode: fileMode(item.Mode, mode)}); err != nil {
			return err
		}
	}
	return nil
}

func (c *collector) downward(items []corev1.DownwardAPIVolumeFile, mode *int32) error {
	for _, item := range items {
		var text string
		var err error
		switch {
		case item.FieldRef != nil:
			text, err = runspec.Field(c.pod, item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			text, err = runspec.ResourceField(c.pod, nil, item.ResourceFieldRef, c.m.c.Allocatable())
		}
		if err != nil {
			return err
		}
		if err := c.add(item.Path, file{data: []byte(text), mode: fileMode(item.Mode, mode)}); err != nil {
			return err
		}
	}
	return nil
}

// token adds a ServiceAccount token, a new one if the last is to be replaced.
func (c *collector) token(source *corev1.ServiceAccountTokenProjection, mode *int32) error {
	key := c.volume + "/" + source.Path
	t, ok := c.state.tokens[key]
	if now := c.m.c.Now(); !ok || !now.Before(t.Renew) {
		fresh, err := c.m.c.Sources.Token(c.ctx, c.pod, source)
		switch {
		case err == nil:
			t = fresh
			c.state.tokens[key] = t
		case !ok || !now.Before(t.Expires):
			return err
		}
	}
	return c.add(source.Path, c.credential([]byte(t.Value), mode))
}

// credential is a file that tells the pod apart. KEP-1205: it belongs to the one user of the pod, if there is one, and is for nobody else
// but the pod's fsGroup. Where neither is said, anybody may read it: which user asks is not known before the container runs.
func (c *collector) credential(data []byte, mode *int32) file {
	f := file{data: data, mode: fileMode(nil, mode), uid: soleUser(c.pod)}
	if f.uid != nil || fsGroup(c.pod) != nil {
		f.mode = 0o600
	}
	return f
}

// add puts a file at a path that must stay within the volume.
func (c *collector) add(name string, f file) error {
	clean := path.Clean(name)
	if name == "" || !filepath.IsLocal(clean) || clean == "." || hasDots(clean) {
		return fmt.Errorf("invalid path %q in volume %q: it must be relative and stay within the volume", name, c.volume)
	}
	c.files[clean] = f
	return nil
}

func hasDots(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return len(first) >= 2 && first[:2] == ".."
}

// defaultFileMode is the API's default for files of these volumes.
const defaultFileMode = 0o644

func fileMode(own, usual *int32) os.FileMode {
	switch {
	case own != nil:
		return os.FileMode(*own)
	case usual != nil:
		return os.FileMode(*usual)
	}
	return defaultFileMode
}

// soleUser is the user that all containers run as by the pod's own word, nil if there is no such one.
func soleUser(p *corev1.Pod) *int64 {
	var sole *int64
	look := func(c *corev1.Container) bool {
		var uid *int64
		if p.Spec.SecurityContext != nil {
			uid = p.Spec.SecurityContext.RunAsUser
		}
		if c.SecurityContext != nil && c.SecurityContext.RunAsUser != nil {
			uid = c.SecurityContext.RunAsUser
		}
		if uid == nil || sole != nil && *sole != *uid {
			return false
		}
		sole = uid
		return true
	}
	for i := range p.Spec.InitContainers {
		if !look(&p.Spec.InitContainers[i]) {
			return nil
		}
	}
	for i := range p.Spec.Containers {
		if !look(&p.Spec.Containers[i]) {
			return nil
		}
	}
	return sole
}

func isTrue(b *bool) bool { return b != nil && *b }
