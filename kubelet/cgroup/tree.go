package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// podPrefix begins the name of every pod's group.
const podPrefix = "pod"

// Tree is the part of the hierarchy that the kubelet owns: the QoS classes and the pods in them.
type Tree struct {
	h    *Hierarchy
	root string
}

// Tree returns the QoS tree at root, such as "kubepods". It makes nothing yet.
func (h *Hierarchy) Tree(root string) *Tree { return &Tree{h: h, root: strings.Trim(root, "/")} }

// Hierarchy returns what the tree is in.
func (t *Tree) Hierarchy() *Hierarchy { return t.h }

// Path is the group of a class: the root itself for Guaranteed.
func (t *Tree) Path(qos QoS) string {
	switch qos {
	case Burstable:
		return filepath.Join(t.root, "burstable")
	case BestEffort:
		return filepath.Join(t.root, "besteffort")
	default:
		return t.root
	}
}

// PodPath is the group of a pod: what [bareboat.dev/kubelet/shim.PodConfig] takes as CgroupParent.
func (t *Tree) PodPath(qos QoS, uid string) string { return filepath.Join(t.Path(qos), podPrefix+uid) }

// Ensure makes the tree and sets what the node has for pods (allocatable) as limits of its root. BestEffort gets the least CPU weight.
// It may be called again when allocatable changes.
func (t *Tree) Ensure(allocatable Resources) error {
	for _, qos := range []QoS{Guaranteed, Burstable, BestEffort} {
		if err := t.h.Create(t.Path(qos)); err != nil {
			return fmt.Errorf("make cgroup of class %s: %w", qos, err)
		}
	}
	if err := t.h.Set(t.root, allocatable); err != nil {
		return err
	}
	const leastShares = 2
	return t.h.Set(t.Path(BestEffort), Resources{CPUShares: leastShares})
}

// SetQoS sets limits on a class: the kubelet gives Burstable the sum of its pods' CPU shares.
func (t *Tree) SetQoS(qos QoS, r Resources) error { return t.h.Set(t.Path(qos), r) }

// CreatePod makes a pod's group with its limits and returns its path. An existing one gets the limits. Huge pages of a size that r does
// not name are refused to the pod: who wants them asks for them (KEP-1539).
func (t *Tree) CreatePod(qos QoS, uid string, r Resources) (string, error) {
	path := t.PodPath(qos, uid)
	if strings.ContainsAny(uid, "/.") || uid == "" {
		return "", fmt.Errorf("%w: pod UID %q", ErrInvalid, uid)
	}
	if err := t.h.Create(path); err != nil {
		return "", fmt.Errorf("make cgroup of pod %s: %w", uid, err)
	}
	r.HugepageLimits = t.h.withOtherHugepages(r.HugepageLimits)
	if err := t.h.Set(path, r); err != nil {
		return "", fmt.Errorf("limit pod %s: %w", uid, err)
	}
	return path, nil
}

// UpdatePod changes a pod's limits, wherever in the tree it is.
func (t *Tree) UpdatePod(uid string, r Resources) error {
	path, ok := t.find(uid)
	if !ok {
		return fmt.Errorf("pod %s: %w", uid, ErrNotFound)
	}
	return t.h.Set(path, r)
}

// RemovePod kills what is left in a pod's group and removes it. A missing one is fine.
func (t *Tree) RemovePod(ctx context.Context, uid string) error {
	for _, qos := range []QoS{Guaranteed, Burstable, BestEffort} {
		path := t.PodPath(qos, uid)
		if !t.h.Exists(path) {
			continue
		}
		if err := errors.Join(t.h.Kill(ctx, path), t.h.Remove(path)); err != nil {
			return fmt.Errorf("remove cgroup of pod %s: %w", uid, err)
		}
	}
	return nil
}

func (t *Tree) find(uid string) (string, bool) {
	for _, qos := range []QoS{Guaranteed, Burstable, BestEffort} {
		if path := t.PodPath(qos, uid); t.h.Exists(path) {
			return path, true
		}
	}
	return "", false
}

// Pods lists the pods that have a group in any hierarchy, with their class.
func (t *Tree) Pods() (map[string]QoS, error) {
	pods := map[string]QoS{}
	for _, root := range t.h.distinct {
		for _, qos := range []QoS{Guaranteed, Burstable, BestEffort} {
			entries, err := os.ReadDir(filepath.Join(root, t.Path(qos)))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			for _, e := range entries {
				if uid, ok := strings.CutPrefix(e.Name(), podPrefix); ok && e.IsDir() {
					pods[uid] = qos
				}
			}
		}
	}
	return pods, nil
}

// Remove kills everything in the tree and removes it: for the end of a node.
func (t *Tree) Remove(ctx context.Context) error {
	return errors.Join(t.h.Kill(ctx, t.root), t.h.Remove(t.root))
}
