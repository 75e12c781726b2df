package image

import (
	"cmp"
	"context"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// FSUsage describes a file system.
type FSUsage struct {
	Path                          string
	CapacityBytes, AvailableBytes uint64
	InodesTotal, InodesFree       uint64
	// ImagesBytes is the size of all unpacked layers.
	ImagesBytes uint64
}

// UsedPercent rounds up, as df does.
func (u FSUsage) UsedPercent() int {
	if u.CapacityBytes == 0 {
		return 0
	}
	used := u.CapacityBytes - min(u.AvailableBytes, u.CapacityBytes)
	return int((used*100 + u.CapacityBytes - 1) / u.CapacityBytes)
}

// Usage is what the file system that holds the store has, and has used.
func (s *Store) Usage() (FSUsage, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.root, &st); err != nil {
		return FSUsage{}, err
	}
	size := uint64(st.Bsize)
	return FSUsage{
		Path: s.root, CapacityBytes: st.Blocks * size, AvailableBytes: st.Bavail * size,
		InodesTotal: st.Files, InodesFree: st.Ffree, ImagesBytes: s.layersSize(),
	}, nil
}

// layersSize counts each layer once, however many images have it.
func (s *Store) layersSize() uint64 {
	s.mu.Lock()
	layers := map[string]bool{}
	for _, r := range s.images {
		for _, l := range r.Layers {
			layers[l] = true
		}
	}
	s.mu.Unlock()
	var total uint64
	for l := range layers {
		if size, err := s.layerSize(l); err == nil {
			total += uint64(size)
		}
	}
	return total
}

// GC removes unused images, least recently used first, as the policy says.
func (s *Store) GC(ctx context.Context, now time.Time, p GCPolicy) (GCResult, error) {
	before, err := s.Usage()
	if err != nil {
		return GCResult{}, err
	}
	var result GCResult
	usage := before
	full := before.UsedPercent() >= p.HighPercent
	for _, c := range candidates(s.List(), now, p) {
		if err := ctx.Err(); err != nil {
			return result, err
		}
		if !c.expired && (!full || usage.UsedPercent() <= p.LowPercent) {
			continue
		}
		if err := s.Remove(ctx, c.id); err != nil {
			continue // came into use, or has just been removed by somebody
		}
		result.Removed = append(result.Removed, c.id)
		if usage, err = s.Usage(); err != nil {
			return result, err
		}
	}
	result.UsedPercent = usage.UsedPercent()
	result.FreedBytes = int64(usage.AvailableBytes) - int64(before.AvailableBytes)
	result.Short = full && result.UsedPercent > p.LowPercent
	return result, nil
}

type candidate struct {
	id      string
	expired bool
}

// candidates is pure: the images that may go, in the order in which they should.
func candidates(images []Image, now time.Time, p GCPolicy) []candidate {
	slices.SortStableFunc(images, func(a, b Image) int { return cmp.Compare(a.LastUsed.UnixNano(), b.LastUsed.UnixNano()) })
	var list []candidate
	for _, img := range images {
		age := now.Sub(img.LastUsed)
		if img.Pinned || age < p.MinAge || p.InUse != nil && p.InUse(img.ID) {
			continue
		}
		list = append(list, candidate{id: img.ID, expired: p.MaxAge > 0 && age > p.MaxAge})
	}
	return list
}
