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
