package agent

import (
	"testing"
	"time"
)

// Shows that what waits while applies keep failing is bounded, and that the oldest times are the ones that are kept.
func TestPendingIsBounded(t *testing.T) {
	first := time.Unix(1, 0)
	failed := pending{since: first, triggers: []time.Time{first}}
	for n := range 10 {
		meanwhile := pending{since: time.Unix(int64(100+n), 0), triggers: make([]time.Time, maxTriggers)}
		meanwhile.restore(failed)
		failed = meanwhile
	}
	if len(failed.triggers) != maxTriggers || !failed.triggers[0].Equal(first) || !failed.since.Equal(first) {
		t.Errorf("%d times, the first %v, waiting since %v", len(failed.triggers), failed.triggers[0], failed.since)
	}
}
