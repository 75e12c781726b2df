package volume

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/storage/ephemeral"
)

// Figures are how full a volume is. What is not known is 0, as the sizes of block volumes.
type Figures struct {
	// Capacity, Used and Available are in bytes.
	Capacity, Used, Available      uint64
	Inodes, InodesUsed, InodesFree uint64
}

// Measurer is a [Plugin] that can say how full a volume is; [ErrUnsupported] if it cannot for this one.
type Measurer interface {
	Measure(ctx context.Context, r Request) (Figures, error)
}

// Expander is a [Plugin] that can make the file system or the device of a volume larger, whose disk is larger already: to so many bytes.
// [ErrUnsupported] if there is nothing to be done on the node.
type Expander interface {
	Expand(ctx context.Context, r Request, bytes int64) error
}

// Claimed is a volume of a pod that a claim stands behind.
type Claimed struct {
	Request
	// Claim is the claim's name.
	Claim string
}

// ClaimName is the name of the claim behind a pod's volume; empty if there is none.
func ClaimName(p *corev1.Pod, v *corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return p.Name + "-" + v.Name
	}
	return ""
}

// Claims are the volumes of a pod that claims stand behind. Those that cannot be looked up are left out.
func (m *Manager) Claims(ctx context.Context, p *corev1.Pod) ([]Claimed, error) {
	var all []Claimed
	var errs error
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		claim := ClaimName(p, v)
		if claim == "" {
			continue
		}
		r, err := m.known(ctx, p, v)
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("claim %s/%s: %w", p.Namespace, claim, err))
			continue
		}
		all = append(all, Claimed{r, claim})
	}
	return all, errs
}

// usable refuses claims that a pod must not use: unbound ones, one that somebody else made under the name of the pod's own ephemeral volume, and,
// if the pod is about to start, one that is being deleted.
func usable(c *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume, p *corev1.Pod, v *corev1.Volume, starting bool) error {
	if v.Ephemeral != nil {
		if err := ephemeral.VolumeIsForPod(p, c); err != nil {
			return err
		}
	}
	switch {
	case starting && c.DeletionTimestamp != nil:
		return fmt.Errorf("PersistentVolumeClaim %s/%s is being deleted", c.Namespace, c.Name)
	case c.Status.Phase != corev1.ClaimBound || pv == nil:
		return fmt.Errorf("PersistentVolumeClaim %s/%s is not bound", c.Namespace, c.Name)
	case pv.Spec.ClaimRef == nil:
		return fmt.Errorf("PersistentVolume %s is not bound to any claim", pv.Name)
	case pv.Spec.ClaimRef.UID != c.UID:
		return fmt.Errorf("PersistentVolume %s is bound to a claim of uid %q, not to PersistentVolumeClaim %s/%s of uid %q", pv.Name, pv.Spec.ClaimRef.UID, c.Namespace, c.Name, c.UID)
	}
	return nil
}

// CheckMode refuses a volume that a container has among its volumeMounts but that is a device, or the other way round.
func (m *Manager) CheckMode(ctx context.Context, p *corev1.Pod, v *corev1.Volume, want corev1.PersistentVolumeMode) error {
	mode, claim := corev1.PersistentVolumeFilesystem, ClaimName(p, v)
	if claim != "" {
		r, err := m.known(ctx, p, v)
		if err != nil {
			return err
		}
		if r.Block() {
			mode = corev1.PersistentVolumeBlock
		}
	}
	if mode == want {
		return nil
	}
	field := map[corev1.PersistentVolumeMode]string{corev1.PersistentVolumeFilesystem: "volumeMounts", corev1.PersistentVolumeBlock: "volumeDevices"}[want]
	return fmt.Errorf("volume %s has volumeMode %s, but is specified in %s", v.Name, mode, field)
}

// known is a volume as it was looked up once.
func (m *Manager) known(ctx context.Context, p *corev1.Pod, v *corev1.Volume) (Request, error) {
	s := m.state(p.UID)
	m.mu.Lock()
	r, ok := s.claims[v.Name]
	m.mu.Unlock()
	if ok {
		r.Pod = p
		return r, nil
	}
	r, err := m.request(ctx, p, v, false)
	if err != nil {
		return Request{}, err
	}
	if ClaimName(p, v) == "" {
		return r, nil // as the pod says it
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.claims[v.Name] = r
	return r, nil
}

// Measure says how full a volume is: by its plug-in, or by its file system. [ErrUnsupported] for those of which that would say nothing,
// as a directory of the node's own.
func (m *Manager) Measure(ctx context.Context, c Claimed) (Figures, error) {
	plugin := m.c.Plugins[pluginOf(c.Request)]
	if measurer, ok := plugin.(Measurer); ok {
		return measurer.Measure(ctx, c.Request)
	}
	switch {
	case c.Block():
	case plugin != nil:
		return MeasureFS(plugin.Path(c.Request))
	case c.PV.Spec.Local != nil:
		return MeasureFS(c.PV.Spec.Local.Path)
	}
	return Figures{}, fmt.Errorf("%w that measures volume %q", ErrUnsupported, c.Name)
}

// MeasureFS is what statfs(2) says of the file system that a path is on.
func MeasureFS(path string) (Figures, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Figures{}, fmt.Errorf("statfs %s: %w", path, err)
	}
	size := uint64(st.Bsize)
	return Figures{
		Capacity: st.Blocks * size, Used: (st.Blocks - st.Bfree) * size, Available: st.Bavail * size,
		Inodes: st.Files, InodesUsed: st.Files - st.Ffree, InodesFree: st.Ffree,
	}, nil
}

// Expand makes a volume larger where its plug-in can.
func (m *Manager) Expand(ctx context.Context, c Claimed, bytes int64) error {
	if e, ok := m.c.Plugins[pluginOf(c.Request)].(Expander); ok {
		return e.Expand(ctx, c.Request, bytes)
	}
	return fmt.Errorf("%w that expands volume %q", ErrUnsupported, c.Name)
}
