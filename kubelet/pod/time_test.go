package pod

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// TestTimesSurviveTheWire shows that a time in a status is still the same after the API has kept it; else it would be written for ever.
func TestTimesSurviveTheWire(t *testing.T) {
	for _, at := range []time.Time{{}, time.Unix(1700000000, 123456789)} {
		before := corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, LastTransitionTime: apiTime(at)}}}
		wire, err := before.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		var after corev1.PodStatus
		if err := after.Unmarshal(wire); err != nil {
			t.Fatal(err)
		}
		if !equality.Semantic.DeepEqual(before, after) {
			t.Errorf("%v went out as %v and came back as %v", at, before, after)
		}
	}
}
