package pod

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// apiTime is a time as the API keeps it, in whole seconds: a status that says more would never equal what was stored of it, and would
// be written for ever.
func apiTime(t time.Time) metav1.Time {
	if t.IsZero() {
		return metav1.Time{}
	}
	return metav1.NewTime(t.Truncate(time.Second))
}
