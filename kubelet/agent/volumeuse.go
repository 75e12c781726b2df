package agent

import (
	"context"
	"errors"

	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/kubelet/volume"
)

// VolumeUse is how full a volume of a pod is that a claim stands behind.
type VolumeUse struct {
	// Name is the volume's in the pod, Claim its claim's, Dir its folder below the pod's; no folder for what lies elsewhere on the host.
	Name, Claim, Dir string
	volume.Figures
}

// VolumeUses measures the volumes of a pod that claims stand behind. Those that nothing can measure are left out.
func (a *Agent) VolumeUses(ctx context.Context, uid string) []VolumeUse {
	var list []VolumeUse
	a.withWorker(types.UID(uid), func(w *worker) {
		view := w.snapshot()
		claims, err := a.volumes.Claims(ctx, view.pod)
		if err != nil && ctx.Err() == nil {
			a.Log.Warn("volumes were not measured", "pod", podKey(view.pod), "error", err)
		}
		for _, c := range claims {
			f, err := a.volumes.Measure(ctx, c)
			if err != nil {
				if !errors.Is(err, volume.ErrUnsupported) && ctx.Err() == nil {
					a.Log.Warn("volume was not measured", "pod", podKey(view.pod), "volume", c.Name, "error", err)
				}
				continue
			}
			list = append(list, VolumeUse{Name: c.Name, Claim: c.Claim, Dir: c.Dir, Figures: f})
		}
	})
	return list
}
