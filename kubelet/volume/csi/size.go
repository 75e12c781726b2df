package csi

import (
	"context"
	"fmt"
	"time"

	spec "github.com/container-storage-interface/spec/lib/go/csi"

	"bareboat.dev/kubelet/volume"
)

// measureLimit bounds the wait for a driver that is to say how full a volume is: somebody waits for a page of metrics.
const measureLimit = 5 * time.Second

// Measure implements [volume.Measurer] with NodeGetVolumeStats.
func (p *Plugin) Measure(ctx context.Context, r volume.Request) (volume.Figures, error) {
	t := targetOf(r)
	d, err := p.r.find(t.Driver)
	if err != nil {
		return volume.Figures{}, err
	}
	if !d.stats {
		return volume.Figures{}, fmt.Errorf("%w: driver %s does not say how full volumes are", volume.ErrUnsupported, t.Driver)
	}
	ctx, cancel := context.WithTimeout(ctx, measureLimit)
	defer cancel()
	request := &spec.NodeGetVolumeStatsRequest{VolumeId: t.Handle, VolumePath: p.published(t, r.Pod.UID, r.Dir)}
	if d.stages && !t.ephemeral() {
		request.StagingTargetPath = p.staged(t)
	}
	answer, err := d.node.NodeGetVolumeStats(ctx, request)
	if err != nil {
		return volume.Figures{}, fmt.Errorf("NodeGetVolumeStats: %w", err)
	}
	return figures(answer), nil
}

func figures(answer *spec.NodeGetVolumeStatsResponse) volume.Figures {
	var f volume.Figures
	for _, u := range answer.GetUsage() {
		total, used, available := uint64(max(u.GetTotal(), 0)), uint64(max(u.GetUsed(), 0)), uint64(max(u.GetAvailable(), 0))
		switch u.GetUnit() {
		case spec.VolumeUsage_BYTES:
			f.Capacity, f.Used, f.Available = total, used, available
		case spec.VolumeUsage_INODES:
			f.Inodes, f.InodesUsed, f.InodesFree = total, used, available
		}
	}
	return f
}

// Expand implements [volume.Expander] with NodeExpandVolume.
func (p *Plugin) Expand(ctx context.Context, r volume.Request, bytes int64) error {
	t := targetOf(r)
	d, err := p.r.find(t.Driver)
	if err != nil {
		return err
	}
	if !d.expands || t.ephemeral() {
		return fmt.Errorf("%w: driver %s does not expand volumes on the node", volume.ErrUnsupported, t.Driver)
	}
	secrets, err := p.secrets(ctx, r.PV.Spec.CSI.NodeExpandSecretRef)
	if err != nil {
		return err
	}
	request := &spec.NodeExpandVolumeRequest{
		VolumeId: t.Handle, VolumePath: p.published(t, r.Pod.UID, r.Dir), VolumeCapability: capability(d, r), Secrets: secrets,
		CapacityRange: &spec.CapacityRange{RequiredBytes: bytes},
	}
	if d.stages {
		request.StagingTargetPath = p.staged(t)
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	if _, err := d.node.NodeExpandVolume(ctx, request); err != nil {
		return fmt.Errorf("NodeExpandVolume: %w", err)
	}
	return nil
}
