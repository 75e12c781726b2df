package csi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

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
	// tokens are those that drivers have been given for pods, until they are to be replaced.
	tokens map[tokenKey]volume.Token
	// staging serializes what is done to the node's part of each volume: the last pod's end must not unstage what a new pod has just found
	// staged. A driver that hangs keeps nobody from the volumes of others.
	staging map[stagingKey]*stagingLock
}

type stagingKey struct{ driver, handle string }

// tokenKey is whose token it is, and for whom.
type tokenKey struct {
	pod      types.UID
	audience string
	seconds  int64
}

// stagingLock is the lock of a volume, for as long as somebody has it or waits for it.
type stagingLock struct {
	held  chan struct{}
	users int
}

// NewPlugin makes volumes with the drivers of r.
func NewPlugin(r *Registry) *Plugin {
	return &Plugin{r: r, staging: map[stagingKey]*stagingLock{}, tokens: map[tokenKey]volume.Token{}}
}

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
	object, err := p.r.object(ctx, t.Driver)
	if err != nil {
		return "", err
	}
	if err := errors.Join(allowsLifecycle(object, t), p.alone(r, t)); err != nil {
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
	path, err := p.publish(ctx, d, object, r, t, publishContext)
	if err != nil || readOnly(r) || !wantsGroup(d, object, r) {
		return path, err
	}
	s := r.Pod.Spec.SecurityContext
	onMismatch := s.FSGroupChangePolicy != nil && *s.FSGroupChangePolicy == corev1.FSGroupChangeOnRootMismatch
	return path, volume.ApplyFSGroup(path, *s.FSGroup, onMismatch)
}

// republishEvery is how often volumes are published again whose driver wants that, about as often as the kubelet of Kubernetes does.
const republishEvery = time.Minute

// Refresh implements [volume.Refresher]: the volume is published again if its driver wants that (CSIDriver.spec.requiresRepublish), as one
// that brings secrets in, or needs new tokens.
func (p *Plugin) Refresh(ctx context.Context, r volume.Request) (time.Time, error) {
	t := targetOf(r)
	if t.Block {
		return time.Time{}, nil
	}
	object, err := p.r.object(ctx, t.Driver)
	if err != nil {
		return time.Time{}, err
	}
	if object.Spec.RequiresRepublish == nil || !*object.Spec.RequiresRepublish {
		return time.Time{}, nil
	}
	again := time.Now().Add(republishEvery)
	d, err := p.r.find(t.Driver)
	if err != nil {
		return again, err
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	publishContext, err := p.attachment(ctx, object, t)
	if err == nil {
		_, err = p.publish(ctx, d, object, r, t, publishContext)
	}
	return again, err
}

// object is what the cluster says of a driver: nothing in particular if there is no such object.
func (r *Registry) object(ctx context.Context, driver string) (*storagev1.CSIDriver, error) {
	object, err := r.c.API.CSIDriver(ctx, driver)
	if apierrors.IsNotFound(err) {
		return &storagev1.CSIDriver{}, nil
	}
	return object, err
}

// alone refuses a volume that is for one pod alone, and that another one has.
func (p *Plugin) alone(r volume.Request, t target) error {
	if r.PV == nil || !slices.Contains(r.PV.Spec.AccessModes, corev1.ReadWriteOncePod) {
		return nil
	}
	if p.elsewhere(t, r.Dir) {
		return errors.New("volume uses the ReadWriteOncePod access mode and is already in use by another pod")
	}
	return nil
}

// elsewhere says whether another pod, whose record lies in another directory than dir, has the volume.
func (p *Plugin) elsewhere(t target, dir string) bool {
	return slices.ContainsFunc(records(p.r.c.Root), func(file string) bool {
		other, err := readTarget(filepath.Dir(file))
		return err == nil && filepath.Dir(file) != dir && other.Driver == t.Driver && other.Handle == t.Handle
	})
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

// Unmount implements [volume.Plugin]: it unpublishes the volume, and unstages it if no other pod of the node has it.
func (p *Plugin) Unmount(ctx context.Context, uid types.UID, dir string) error {
	t, err := readTarget(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil // never begun
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	maps.DeleteFunc(p.tokens, func(k tokenKey, _ volume.Token) bool { return k.pod == uid })
	p.mu.Unlock()
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
	if p.elsewhere(t, dir) {
		return nil
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
