package etcd

import (
	"context"

	"github.com/coreos/go-semver/semver"
)

// ordersProgress reports whether every member answers a request for progress behind the events that it has yet to send.
// Without all of them answering it is taken not to: reads are then a little slower when others write to the same etcd.
func (e *Engine) ordersProgress(ctx context.Context) bool {
	for _, endpoint := range e.cfg.Endpoints {
		s, err := e.client.Status(ctx, endpoint)
		if err != nil {
			e.cfg.Log.Warn("version of an etcd member is unknown, not using its progress notifications", "endpoint", endpoint, "error", err)
			return false
		}
		if v, err := semver.NewVersion(s.Version); err != nil || !ordered(*v) {
			e.cfg.Log.Info("etcd member is too old for ordered progress notifications", "endpoint", endpoint, "version", s.Version)
			return false
		}
	}
	return true
}

// ordered reports whether a version has both fixes, which were made for 3.6 and brought back to 3.5.13 and 3.4.31.
func ordered(v semver.Version) bool {
	switch {
	case v.Major == 3 && v.Minor == 4:
		return v.Patch >= 31
	case v.Major == 3 && v.Minor == 5:
		return v.Patch >= 13
	}
	return v.Major > 3 || v.Major == 3 && v.Minor > 5
}
