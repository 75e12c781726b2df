package client

import (
	"testing"
	"time"
)

// Pauses begin short, grow, and stay within the longest; an attempt that went well begins anew.
func TestBackoff(t *testing.T) {
	for _, most := range []time.Duration{0, time.Second} {
		b := Backoff{Most: most}
		limit := retryMax
		if most != 0 {
			limit = most
		}
		for n := range 100 {
			ceiling := limit
			if n < 10 {
				ceiling = min(retryBase<<n, limit)
			}
			if pause := b.Next(); pause <= 0 || pause > ceiling {
				t.Errorf("pause %d is %v, of at most %v", n, pause, ceiling)
			}
		}
		b.Reset()
		if pause := b.Next(); pause > retryBase {
			t.Errorf("after success it is %v", pause)
		}
	}
}
