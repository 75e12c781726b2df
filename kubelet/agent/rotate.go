package agent

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// rotateEvery is how often logs' sizes are looked at. The size is a limit on the disk, not on a single log: at 100 MB/s a log
// grows by 1 GB between two looks, which the next look rotates away.
const rotateEvery = 10 * time.Second

// RotateLogs keeps container logs within maxBytes and maxFiles each, until ctx ends. A rotated log is renamed to
// <log>.<time>, the older ones are compressed, the oldest removed.
func (a *Agent) RotateLogs(ctx context.Context, maxBytes int64, maxFiles int) error {
	timer := time.NewTimer(rotateEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-timer.C:
			a.RotateOnce(ctx, now, maxBytes, maxFiles)
		}
		timer.Reset(rotateEvery)
	}
}

// RotateOnce rotates the logs that have reached maxBytes; now names their rotated parts.
func (a *Agent) RotateOnce(ctx context.Context, now time.Time, maxBytes int64, maxFiles int) {
	for _, r := range a.RunningContainers("", "") {
		if info, err := os.Stat(r.LogPath); err != nil || info.Size() < maxBytes {
			continue
		}
		if err := rotate(ctx, r, r.LogPath, now, maxFiles); err != nil && ctx.Err() == nil {
			a.Log.Warn("container log was not rotated", "pod", r.Namespace+"/"+r.Pod, "container", r.Container, "error", err)
		}
	}
}

// rotatedTime is the suffix of rotated logs, as Kubernetes has it.
const rotatedTime = "20060102-150405"

// rotate starts a new log: rename, then tell podshim to open the path anew.
func rotate(ctx context.Context, r Running, path string, now time.Time, maxFiles int) error {
	old, err := rotatedLogs(path)
	if err != nil {
		return err
	}
	rotated := fmt.Sprintf("%s.%s", path, now.Format(rotatedTime))
	if len(old) > 0 && strings.TrimSuffix(old[len(old)-1], ".gz") >= rotated {
		return nil // the newest part is of this second already, and names must keep the order: the next round will do
	}
	// The live log and the one that is rotated now count, too.
	for len(old) > max(maxFiles-2, 0) {
		if err := os.Remove(old[0]); err != nil {
			return err
		}
		old = old[1:]
	}
	for _, o := range old {
		if !strings.HasSuffix(o, ".gz") {
			if err := compress(o); err != nil {
				return err
			}
		}
	}
	if err := os.Rename(path, rotated); err != nil {
		return err
	}
	if err := r.Sandbox.ReopenLog(ctx, r.ID); err != nil {
		// Nobody writes to the path now; put the log back, so that the next round finds it.
		return errors.Join(err, os.Rename(rotated, path))
	}
	return nil
}

// rotatedLogs are the rotated parts of a log, the oldest first.
func rotatedLogs(path string) ([]string, error) {
	all, err := filepath.Glob(path + ".*")
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(p string) bool { return strings.HasSuffix(p, ".tmp") })
	slices.Sort(all)
	return all, nil
}

// compress replaces a file by its compressed form.
func compress(path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	tmp := path + ".tmp"
	out, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(out)
	_, err = io.Copy(z, in)
	if err = errors.Join(err, z.Close(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, path+".gz"); err != nil {
		return err
	}
	return os.Remove(path)
}
