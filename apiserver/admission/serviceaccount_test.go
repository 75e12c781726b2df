package admission

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/apiserver/registry"
)

// lateReader has accounts from some time on.
type lateReader struct {
	Reader
	from time.Time
}

func (r lateReader) Object(context.Context, string, string, string, string, bool) (registry.Object, bool, error) {
	if time.Now().Before(r.from) {
		return nil, false, nil
	}
	return &corev1.ServiceAccount{}, true, nil
}

// TestDefaultAccountIsWaitedFor shows that a pod that comes with its namespace waits for the account that a controller makes in it, that the
// wait has an end, and that an account that nobody makes is not waited for.
func TestDefaultAccountIsWaitedFor(t *testing.T) {
	tests := map[string]struct {
		name  string
		after time.Duration
		found bool
		most  time.Duration
	}{
		"made a moment later": {"default", 300 * time.Millisecond, true, 300 * time.Millisecond},
		"never made":          {"default", time.Hour, false, time.Second},
		"another's":           {"robot", 300 * time.Millisecond, false, 0},
	}
	for what, tt := range tests {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				cfg := &ServiceAccountConfig{Reader: lateReader{from: start.Add(tt.after)}}
				_, err := cfg.account(t.Context(), "fresh", tt.name)
				if found := err == nil; found != tt.found || !found && !errors.Is(err, errNoAccount) {
					t.Errorf("found %t, %v; want %t", found, err, tt.found)
				}
				if took := time.Since(start); took > tt.most {
					t.Errorf("it took %v, want at most %v", took, tt.most)
				}
			})
		})
	}
}
