package csi

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"time"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"bareboat.dev/kubelet/volume"
)

// capability is how the pod is going to use the volume.
func capability(d *driver, r volume.Request) *spec.VolumeCapability {
	c := &spec.VolumeCapability{AccessMode: &spec.VolumeCapability_AccessMode{Mode: spec.VolumeCapability_AccessMode_SINGLE_NODE_WRITER}}
	if r.PV != nil {
		c.AccessMode.Mode = accessMode(r.PV.Spec.AccessModes, d.multiWriter)
	}
	if r.Block() {
		c.AccessType = &spec.VolumeCapability_Block{Block: &spec.VolumeCapability_BlockVolume{}}
		return c
	}
	m := &spec.VolumeCapability_MountVolume{}
	if r.PV != nil {
		m.FsType, m.MountFlags = r.PV.Spec.CSI.FSType, r.PV.Spec.MountOptions
	} else if fs := r.Source.CSI.FSType; fs != nil {
		m.FsType = *fs
	}
	if s := r.Pod.Spec.SecurityContext; d.mountsGroup && s != nil && s.FSGroup != nil {
		m.VolumeMountGroup = strconv.FormatInt(*s.FSGroup, 10)
	}
	c.AccessType = &spec.VolumeCapability_Mount{Mount: m}
	return c
}

// accessMode is the widest of a volume's modes. Drivers that tell one writer on a node from several are told which (KEP-2485).
func accessMode(modes []corev1.PersistentVolumeAccessMode, multiWriter bool) spec.VolumeCapability_AccessMode_Mode {
	best := spec.VolumeCapability_AccessMode_UNKNOWN
	for _, m := range modes {
		switch m {
		case corev1.ReadWriteMany:
			return spec.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
		case corev1.ReadWriteOnce, corev1.ReadWriteOncePod:
			switch best = spec.VolumeCapability_AccessMode_SINGLE_NODE_WRITER; {
			case multiWriter && m == corev1.ReadWriteOnce:
				best = spec.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER
			case multiWriter:
				best = spec.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
			}
		case corev1.ReadOnlyMany:
			if best == spec.VolumeCapability_AccessMode_UNKNOWN {
				best = spec.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
			}
		}
	}
	return best
}

// stage makes the node's part of a volume. Drivers make repeated calls return at once.
func (p *Plugin) stage(ctx context.Context, d *driver, r volume.Request, t target, publishContext map[string]string) error {
	if !d.stages || t.ephemeral() {
		return nil
	}
	unlock, err := p.lock(ctx, t)
	if err != nil {
		return err
	}
	defer unlock()
	path := p.staged(t)
	if err := os.MkdirAll(path, 0o750); err != nil {
		return err
	}
	secrets, err := p.secrets(ctx, r.PV.Spec.CSI.NodeStageSecretRef)
	if err != nil {
		return err
	}
	_, err = d.node.NodeStageVolume(ctx, &spec.NodeStageVolumeRequest{
		VolumeId: t.Handle, PublishContext: publishContext, StagingTargetPath: path, VolumeCapability: capability(d, r),
		Secrets: secrets, VolumeContext: r.PV.Spec.CSI.VolumeAttributes,
	})
	if err != nil {
		return fmt.Errorf("NodeStageVolume: %w", err)
	}
	return nil
}

// publish makes the pod's part, or brings it up to date.
func (p *Plugin) publish(ctx context.Context, d *driver, object *storagev1.CSIDriver, r volume.Request, t target, publishContext map[string]string) (string, error) {
	path := p.published(t, r.Pod.UID, r.Dir)
	// The last part is the driver's to make.
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return "", err
	}
	request := &spec.NodePublishVolumeRequest{
		VolumeId: t.Handle, PublishContext: publishContext, TargetPath: path, VolumeCapability: capability(d, r), VolumeContext: volumeContext(object, r, t),
		Readonly: readOnly(r),
	}
	var ref *corev1.SecretReference
	var err error
	if r.PV != nil {
		ref = r.PV.Spec.CSI.NodePublishSecretRef
	} else if s := r.Source.CSI.NodePublishSecretRef; s != nil {
		ref = &corev1.SecretReference{Namespace: r.Pod.Namespace, Name: s.Name}
	}
	if request.Secrets, err = p.secrets(ctx, ref); err != nil {
		return "", err
	}
	if err := p.addTokens(ctx, object, r, request); err != nil {
		return "", err
	}
	if d.stages && !t.ephemeral() {
		request.StagingTargetPath = p.staged(t)
	}
	if _, err := d.node.NodePublishVolume(ctx, request); err != nil {
		return "", fmt.Errorf("NodePublishVolume: %w", err)
	}
	return path, nil
}

// readOnly says whether the pod has the volume read-only.
func readOnly(r volume.Request) bool {
	if r.PV != nil {
		return r.PV.Spec.CSI.ReadOnly || r.ReadOnly()
	}
	return r.Source.CSI.ReadOnly != nil && *r.Source.CSI.ReadOnly
}

// wantsGroup says whether we give the volume's files to the pod's group (CSIDriver.spec.fsGroupPolicy).
func wantsGroup(d *driver, object *storagev1.CSIDriver, r volume.Request) bool {
	s := r.Pod.Spec.SecurityContext
	if s == nil || s.FSGroup == nil || d.mountsGroup || r.Block() {
		return false
	}
	policy := storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy
	if object.Spec.FSGroupPolicy != nil {
		policy = *object.Spec.FSGroupPolicy
	}
	switch policy {
	case storagev1.FileFSGroupPolicy:
		return true
	case storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy:
		if r.PV == nil || r.PV.Spec.CSI.FSType == "" {
			return false
		}
		for _, m := range r.PV.Spec.AccessModes {
			if m == corev1.ReadWriteOnce || m == corev1.ReadWriteOncePod {
				return true
			}
		}
	}
	return false
}

// volumeContext is the volume's attributes and, for drivers that ask for it, who the pod is (CSIDriver.spec.podInfoOnMount).
func volumeContext(object *storagev1.CSIDriver, r volume.Request, t target) map[string]string {
	all := map[string]string{}
	if r.PV != nil {
		maps.Copy(all, r.PV.Spec.CSI.VolumeAttributes)
	} else {
		maps.Copy(all, r.Source.CSI.VolumeAttributes)
	}
	if object.Spec.PodInfoOnMount != nil && *object.Spec.PodInfoOnMount {
		all["csi.storage.k8s.io/pod.name"], all["csi.storage.k8s.io/pod.namespace"] = r.Pod.Name, r.Pod.Namespace
		all["csi.storage.k8s.io/pod.uid"], all["csi.storage.k8s.io/serviceAccount.name"] = string(r.Pod.UID), r.Pod.Spec.ServiceAccountName
		all["csi.storage.k8s.io/ephemeral"] = strconv.FormatBool(t.ephemeral())
	}
	return all
}

// addTokens gives a driver the tokens of the pod's service account that it asks for (CSIDriver.spec.tokenRequests), among the volume's
// attributes or, if it says so, the secrets (serviceAccountTokenInSecrets), which nobody logs.
func (p *Plugin) addTokens(ctx context.Context, object *storagev1.CSIDriver, r volume.Request, request *spec.NodePublishVolumeRequest) error {
	if len(object.Spec.TokenRequests) == 0 {
		return nil
	}
	type token struct {
		Token               string `json:"token"`
		ExpirationTimestamp string `json:"expirationTimestamp"`
	}
	tokens := map[string]token{}
	for _, want := range object.Spec.TokenRequests {
		got, err := p.token(ctx, r.Pod, want)
		if err != nil {
			return err
		}
		tokens[want.Audience] = token{got.Value, got.Expires.UTC().Format(time.RFC3339)}
	}
	data, err := json.Marshal(tokens)
	if err != nil {
		return err
	}
	const key = "csi.storage.k8s.io/serviceAccount.tokens"
	if in := object.Spec.ServiceAccountTokenInSecrets; in == nil || !*in {
		request.VolumeContext[key] = string(data)
		return nil
	}
	if request.Secrets == nil {
		request.Secrets = map[string]string{}
	}
	request.Secrets[key] = string(data)
	return nil
}

// token is a pod's token for an audience, a new one if the last is to be replaced.
func (p *Plugin) token(ctx context.Context, pod *corev1.Pod, want storagev1.TokenRequest) (volume.Token, error) {
	key := tokenKey{pod: pod.UID, audience: want.Audience}
	if want.ExpirationSeconds != nil {
		key.seconds = *want.ExpirationSeconds
	}
	p.mu.Lock()
	last, ok := p.tokens[key]
	p.mu.Unlock()
	if ok && time.Now().Before(last.Renew) {
		return last, nil
	}
	fresh, err := p.r.c.API.Token(ctx, pod, want.Audience, want.ExpirationSeconds)
	if err != nil {
		if ok && time.Now().Before(last.Expires) {
			return last, nil
		}
		return volume.Token{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tokens[key] = fresh
	return fresh, nil
}

func (p *Plugin) secrets(ctx context.Context, ref *corev1.SecretReference) (map[string]string, error) {
	if ref == nil {
		return nil, nil
	}
	secret, err := p.r.c.API.Secret(ctx, ref.Namespace, ref.Name)
	if err != nil {
		return nil, fmt.Errorf("failed to get secret %s/%s: %w", ref.Namespace, ref.Name, err)
	}
	all := map[string]string{}
	for k, v := range secret.Data {
		all[k] = string(v)
	}
	return all, nil
}
