package csi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/kubelet/durable"
	"bareboat.dev/kubelet/volume"
)

// Plugin makes volumes with the drivers of a registry. It implements [volume.Plugin].
type Plugin struct {
	r *Registry

	mu sync.Mutex
	// staging serializes what is done to the node's part of each volume: the last pod's end must not unstage what a new pod has just found
	// staged. A driver that hangs keeps nobody from the volumes of others.
	staging map[stagingKey]*stagingLock
}

type stagingKey struct{ driver, handle string }

// stagingLock is the lock of a volume, for as long as somebody has it or waits for it.
type stagingLock struct {
	held  chan struct{}
	users int
}

// NewPlugin makes volumes with the drivers of r.
func NewPlugin(r *Registry) *Plugin { return &Plugin{r: r, staging: map[stagingKey]*stagingLock{}} }

// lock takes the lock of a volume's staging. It gives up when ctx ends.
func (p *Plugin) lock(ctx context.Context, t target) (unlock func(), err error) {
	key := stagingKey{t.Driver, t.Handle}
	p.mu.Lock()
	l := p.staging[key]
	if l == nil {
		l = &stagingLock{held: make(chan struct{}, 1)}
		p.staging[key] = l
	}
	l.users++
	p.mu.Unlock()
	leave := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(p.staging, key)
		}
	}
	select {
	case l.held <- struct{}{}:
		return func() { <-l.held; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, fmt.Errorf("wait for another pod's use of volume %s: %w", t.Volume, ctx.Err())
	}
}

// target is one volume as drivers know it, with what is needed to undo it. It is stored as vol_data.json, with the keys that Kubernetes
// gives it.
type target struct {
	Driver    string `json:"driverName"`
	Handle    string `json:"volumeHandle"`
	Volume    string `json:"specVolID"`
	Lifecycle string `json:"volumeLifecycleMode"`
	Block     bool   `json:"block,omitempty"`
	// Attached: a controller attached the volume to this node, and must not detach it meanwhile.
	Attached bool `json:"attached,omitempty"`
}

// dataFile holds a target, in the volume's directory of the pod.
const dataFile = "vol_data.json"

func targetOf(r volume.Request) target {
	if r.PV != nil {
		return target{Driver: r.PV.Spec.CSI.Driver, Handle: r.PV.Spec.CSI.VolumeHandle, Volume: r.PV.Name,
			Lifecycle: string(storagev1.VolumeLifecyclePersistent), Block: r.Block()}
	}
	return target{Driver: r.Source.CSI.Driver, Handle: "csi-" + volume.Hash(string(r.Pod.UID), r.Name), Volume: r.Name,
		Lifecycle: string(storagev1.VolumeLifecycleEphemeral)}
}

func (t target) ephemeral() bool { return t.Lifecycle == string(storagev1.VolumeLifecycleEphemeral) }

// staged is where the node's part of a volume is.
func (p *Plugin) staged(t target) string {
	base := filepath.Join(p.r.c.Root, "plugins/kubernetes.io/csi")
	if t.Block {
		return filepath.Join(base, "volumeDevices/staging", t.Volume)
	}
	return filepath.Join(base, t.Driver, volume.Hash(t.Handle), "globalmount")
}

// published is where the pod's part is.
func (p *Plugin) published(t target, uid types.UID, dir string) string {
	if t.Block {
		return filepath.Join(p.r.c.Root, "plugins/kubernetes.io/csi/volumeDevices/publish", t.Volume, string(uid))
	}
	return filepath.Join(dir, "mount")
}

// Path implements [volume.Plugin].
func (p *Plugin) Path(r volume.Request) string { return p.published(targetOf(r), r.Pod.UID, r.Dir) }

// Mount implements [volume.Plugin]: it stages the volume, if the driver does that, and publishes it to the pod.
func (p *Plugin) Mount(ctx context.Context, r volume.Request) (string, error) {
	t := targetOf(r)
	d, err := p.r.find(t.Driver)
	if err != nil {
		return "", err
	}
	object, err := p.r.c.API.CSIDriver(ctx, t.Driver)
	if err != nil && !apierrors.IsNotFound(err) {
		return "", err
	}
	if object == nil || err != nil {
		object = &storagev1.CSIDriver{}
	}
	if err := allowsLifecycle(object, t); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	publishContext, err := p.attachment(ctx, object, t)
	if err != nil {
		return "", err
	}
	t.Attached = needsAttachment(object, t)
	if err := writeTarget(r.Dir, t); err != nil {
		return "", err
	}
	if t.Attached {
		if err := p.r.c.API.TellInUse(ctx, t.inUse()); err != nil {
			return "", err
		}
		// It may have been decided to detach the volume before that was told.
		if publishContext, err = p.attachment(ctx, object, t); err != nil {
			return "", err
		}
	}
	if err := p.stage(ctx, d, r, t, publishContext); err != nil {
		return "", err
	}
	return p.publish(ctx, d, object, r, t, publishContext)
}

// allowsLifecycle refuses an inline volume of a driver that has not said that it makes such (CSIDriver.spec.volumeLifecycleModes).
func allowsLifecycle(object *storagev1.CSIDriver, t target) error {
	modes := object.Spec.VolumeLifecycleModes
	if len(modes) == 0 {
		modes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
	}
	for _, m := range modes {
		if string(m) == t.Lifecycle {
			return nil
		}
	}
	return fmt.Errorf("volume mode %q not supported by driver %s (only supports %q)", t.Lifecycle, t.Driver, modes)
}

// needsAttachment says whether a controller attaches the volume. Without a CSIDriver object nobody does: the driver was installed without
// saying that it needs it.
func needsAttachment(object *storagev1.CSIDriver, t target) bool {
	required := object.Spec.AttachRequired == nil || *object.Spec.AttachRequired
	return required && !t.ephemeral() && object.Name != ""
}

// attachment is what the controller that attached the volume to this node has left for the driver.
func (p *Plugin) attachment(ctx context.Context, object *storagev1.CSIDriver, t target) (map[string]string, error) {
	if !needsAttachment(object, t) {
		return nil, nil
	}
	name := "csi-" + volume.Hash(t.Handle, t.Driver, p.r.c.Node)
	a, err := p.r.c.API.VolumeAttachment(ctx, name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("volume %s is not attached: %w", t.Volume, err)
	case a.DeletionTimestamp != nil:
		return nil, fmt.Errorf("volume attachment %s of volume %s is being deleted", name, t.Volume)
	case !a.Status.Attached && a.Status.AttachError != nil:
		return nil, fmt.Errorf("volume %s is not attached: %s", t.Volume, a.Status.AttachError.Message)
	case !a.Status.Attached:
		return nil, fmt.Errorf("volume %s is not attached yet (volume attachment %s)", t.Volume, name)
	}
	return a.Status.AttachmentMetadata, nil
}

// capability is how the pod is going to use the volume.
func capability(d *driver, r volume.Request) *spec.VolumeCapability {
	c := &spec.VolumeCapability{AccessMode: &spec.VolumeCapability_AccessMode{Mode: spec.VolumeCapability_AccessMode_SINGLE_NODE_WRITER}}
	if r.PV != nil {
		c.AccessMode.Mode = accessMode(r.PV.Spec.AccessModes)
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

func accessMode(modes []corev1.PersistentVolumeAccessMode) spec.VolumeCapability_AccessMode_Mode {
	best := spec.VolumeCapability_AccessMode_UNKNOWN
	for _, m := range modes {
		switch m {
		case corev1.ReadWriteMany:
			return spec.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
		case corev1.ReadWriteOnce, corev1.ReadWriteOncePod:
			best = spec.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
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

// publish makes the pod's part.
func (p *Plugin) publish(ctx context.Context, d *driver, object *storagev1.CSIDriver, r volume.Request, t target, publishContext map[string]string) (string, error) {
	path := p.published(t, r.Pod.UID, r.Dir)
	// The last part is the driver's to make.
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return "", err
	}
	attributes, err := p.volumeContext(ctx, object, r, t)
	if err != nil {
		return "", err
	}
	request := &spec.NodePublishVolumeRequest{
		VolumeId: t.Handle, PublishContext: publishContext, TargetPath: path, VolumeCapability: capability(d, r), VolumeContext: attributes,
	}
	var ref *corev1.SecretReference
	if r.PV != nil {
		request.Readonly = r.PV.Spec.CSI.ReadOnly || r.ReadOnly()
		ref = r.PV.Spec.CSI.NodePublishSecretRef
	} else {
		request.Readonly = r.Source.CSI.ReadOnly != nil && *r.Source.CSI.ReadOnly
		if s := r.Source.CSI.NodePublishSecretRef; s != nil {
			ref = &corev1.SecretReference{Namespace: r.Pod.Namespace, Name: s.Name}
		}
	}
	if request.Secrets, err = p.secrets(ctx, ref); err != nil {
		return "", err
	}
	if d.stages && !t.ephemeral() {
		request.StagingTargetPath = p.staged(t)
	}
	if _, err := d.node.NodePublishVolume(ctx, request); err != nil {
		return "", fmt.Errorf("NodePublishVolume: %w", err)
	}
	if request.Readonly || !wantsGroup(d, object, r) {
		return path, nil
	}
	s := r.Pod.Spec.SecurityContext
	onMismatch := s.FSGroupChangePolicy != nil && *s.FSGroupChangePolicy == corev1.FSGroupChangeOnRootMismatch
	return path, volume.ApplyFSGroup(path, *s.FSGroup, onMismatch)
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

// volumeContext is the volume's attributes and, for drivers that ask for it, who the pod is (CSIDriver.spec.podInfoOnMount,
// tokenRequests).
func (p *Plugin) volumeContext(ctx context.Context, object *storagev1.CSIDriver, r volume.Request, t target) (map[string]string, error) {
	all := map[string]string{}
	attributes := map[string]string{}
	if r.PV != nil {
		attributes = r.PV.Spec.CSI.VolumeAttributes
	} else {
		attributes = r.Source.CSI.VolumeAttributes
	}
	for k, v := range attributes {
		all[k] = v
	}
	if object.Spec.PodInfoOnMount != nil && *object.Spec.PodInfoOnMount {
		all["csi.storage.k8s.io/pod.name"], all["csi.storage.k8s.io/pod.namespace"] = r.Pod.Name, r.Pod.Namespace
		all["csi.storage.k8s.io/pod.uid"], all["csi.storage.k8s.io/serviceAccount.name"] = string(r.Pod.UID), r.Pod.Spec.ServiceAccountName
		all["csi.storage.k8s.io/ephemeral"] = strconv.FormatBool(t.ephemeral())
	}
	if len(object.Spec.TokenRequests) == 0 {
		return all, nil
	}
	type token struct {
		Token               string `json:"token"`
		ExpirationTimestamp string `json:"expirationTimestamp"`
	}
	tokens := map[string]token{}
	for _, want := range object.Spec.TokenRequests {
		got, err := p.r.c.API.Token(ctx, r.Pod, want.Audience, want.ExpirationSeconds)
		if err != nil {
			return nil, err
		}
		const rfc3339 = "2006-01-02T15:04:05Z07:00"
		tokens[want.Audience] = token{got.Value, got.Expires.UTC().Format(rfc3339)}
	}
	data, err := json.Marshal(tokens)
	all["csi.storage.k8s.io/serviceAccount.tokens"] = string(data)
	return all, err
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

// Unmount implements [volume.Plugin]: it unpublishes the volume, and unstages it if no other pod of the node has it.
func (p *Plugin) Unmount(ctx context.Context, uid types.UID, dir string) error {
	t, err := readTarget(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil // never begun
	}
	if err != nil {
		return err
	}
	d, err := p.r.find(t.Driver)
	if err != nil {
		return err // its own unmounting cannot be done by anybody else
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	path := p.published(t, uid, dir)
	if _, err := d.node.NodeUnpublishVolume(ctx, &spec.NodeUnpublishVolumeRequest{VolumeId: t.Handle, TargetPath: path}); err != nil {
		return fmt.Errorf("NodeUnpublishVolume: %w", err)
	}
	if t.Block {
		_ = os.Remove(filepath.Dir(path)) // fails while another pod has it
	}
	if err := p.unstage(ctx, d, t, dir); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, dataFile)); err != nil || !t.Attached {
		return err
	}
	return p.r.c.API.TellInUse(ctx, "")
}

// unstage takes the node's part away unless another pod, whose record lies in another directory than dir, has the volume.
func (p *Plugin) unstage(ctx context.Context, d *driver, t target, dir string) error {
	if !d.stages || t.ephemeral() {
		return nil
	}
	unlock, err := p.lock(ctx, t)
	if err != nil {
		return err
	}
	defer unlock()
	for _, file := range records(p.r.c.Root) {
		other, err := readTarget(filepath.Dir(file))
		if err == nil && filepath.Dir(file) != dir && other.Driver == t.Driver && other.Handle == t.Handle {
			return nil
		}
	}
	path := p.staged(t)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if _, err := d.node.NodeUnstageVolume(ctx, &spec.NodeUnstageVolumeRequest{VolumeId: t.Handle, StagingTargetPath: path}); err != nil {
		return fmt.Errorf("NodeUnstageVolume: %w", err)
	}
	// Only ever empty folders: what a driver has left mounted stays.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if !t.Block {
		_ = os.Remove(filepath.Dir(path))
	}
	return nil
}

// writeTarget writes down what is about to be made, for whoever undoes it.
func writeTarget(dir string, t target) error {
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, dataFile), data, 0o600)
}

func readTarget(dir string) (target, error) {
	var t target
	data, err := os.ReadFile(filepath.Join(dir, dataFile))
	if err != nil {
		return t, err
	}
	if err := json.Unmarshal(data, &t); err != nil {
		return t, fmt.Errorf("%s: %w", filepath.Join(dir, dataFile), err)
	}
	return t, nil
}
