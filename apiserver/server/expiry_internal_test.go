package server

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// An Event's age counts from the newest of its times.
func TestLastSeen(t *testing.T) {
	at := func(m int) time.Time { return time.Unix(int64(60*m), 0) }
	e := &corev1.Event{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(at(1))}}
	for _, step := range []struct {
		set  func()
		want int
	}{
		{func() {}, 1},
		{func() { e.LastTimestamp = metav1.NewTime(at(2)) }, 2},
		{func() { e.EventTime = metav1.NewMicroTime(at(3)) }, 3},
		{func() { e.Series = &corev1.EventSeries{LastObservedTime: metav1.NewMicroTime(at(4))} }, 4},
	} {
		step.set()
		if got := lastSeen(e); !got.Equal(at(step.want)) {
			t.Errorf("got %v, want minute %d", got, step.want)
		}
	}
}
