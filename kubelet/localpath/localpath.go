// Package localpath removes the directories of local-path volumes that are being deleted.
//
// The local-path provisioner, a controller, gives every volume it makes a label with the node's name and a finalizer. A
// Cleaner watches the volumes of its node. It removes a volume's directory when the volume is being deleted, nobody has a right
// to it any more (phase Released) and its reclaim policy says Delete, and then takes the finalizer off; with another policy it
// only takes the finalizer off. A directory that no volume names is never touched.
package localpath

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/client"
	"bareboat.dev/kubelet/volume"
)

const (
	// NodeLabel and Finalizer are agreed with the provisioner.
	NodeLabel = "bareboat.dev/volume-node"
	Finalizer = "bareboat.dev/local-path"
	// retry is the pause after a failure, such as a directory that something is still mounted in.
	retry = 10 * time.Second
)

// Config is what a Cleaner is made of.
type Config struct {
	Client *client.Client
	// Node is this node's name.
	Node string
	// Root is where the directories are; empty means volume.LocalPathRoot.
	Root string
	Log  *slog.Logger
}

// Cleaner removes directories.
type Cleaner struct {
	cfg     Config
	volumes *client.Mirror[*corev1.PersistentVolume]
	news    chan struct{}
}

// New returns a Cleaner that does nothing until Run.
func New(cfg Config) *Cleaner {
	if cfg.Root == "" {
		cfg.Root = volume.LocalPathRoot
	}
	c := &Cleaner{cfg: cfg, news: make(chan struct{}, 1)}
	c.volumes = client.NewMirror(cfg.Client, client.PersistentVolumes(), client.MirrorOptions[*corev1.PersistentVolume]{
		LabelSelector: NodeLabel + "=" + cfg.Node, Log: cfg.Log,
	})
	c.volumes.OnChange(func(ch client.Change[*corev1.PersistentVolume]) {
		if ch.New == nil || ch.New.DeletionTimestamp == nil {
			return
		}
		select {
		case c.news <- struct{}{}:
		default:
		}
	})
	return c
}

// Run works until ctx ends.
func (c *Cleaner) Run(ctx context.Context) error {
	return client.RunAll(ctx, c.volumes.Run, c.work)
}

func (c *Cleaner) work(ctx context.Context) error {
	for {
		var again <-chan time.Time
		if !c.sweep(ctx) {
			again = time.After(retry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.news:
		case <-again:
		}
	}
}

// sweep lets go of every volume whose time has come; false if something failed.
func (c *Cleaner) sweep(ctx context.Context) (ok bool) {
	ok = true
	for _, v := range c.volumes.List() {
		if !due(v) {
			continue
		}
		if err := c.letGo(ctx, v); err != nil && ctx.Err() == nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			c.cfg.Log.Warn("volume's directory not removed", "volume", v.Name, "error", err)
			ok = false
		}
	}
	return ok
}

// due reports whether a volume waits for its directory to go. One that is bound is somebody's, even if it is being deleted.
func due(v *corev1.PersistentVolume) bool {
	return v.DeletionTimestamp != nil && slices.Contains(v.Finalizers, Finalizer) && v.Status.Phase != corev1.VolumeBound
}

func (c *Cleaner) letGo(ctx context.Context, v *corev1.PersistentVolume) error {
	released := v.Status.Phase == corev1.VolumeReleased && v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete
	if released && volume.IsLocalPath(v) {
		if err := volume.RemoveLocalPath(c.cfg.Root, v.Name); err != nil {
			return err
		}
		c.cfg.Log.Info("volume's directory removed", "volume", v.Name)
	}
	keep := slices.DeleteFunc(slices.Clone(v.Finalizers), func(f string) bool { return f == Finalizer })
	if keep == nil {
		keep = []string{}
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": v.UID, "resourceVersion": v.ResourceVersion, "finalizers": keep}})
	if err != nil {
		return err
	}
	_, err = client.Of(c.cfg.Client, client.PersistentVolumes()).Patch(ctx, "", v.Name, client.MergePatch, patch, client.PatchOptions{})
	return err
}
