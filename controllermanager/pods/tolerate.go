package pods

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// Tolerates follows the API documentation of Toleration: an empty effect or key matches any, Exists matches any value, Lt and
// Gt compare integers.
func Tolerates(tol *corev1.Toleration, t *corev1.Taint) bool {
	if tol.Effect != "" && tol.Effect != t.Effect || tol.Key != "" && tol.Key != t.Key {
		return false
	}
	switch tol.Operator {
	case "", corev1.TolerationOpEqual:
		return tol.Value == t.Value
	case corev1.TolerationOpExists:
		return true
	case corev1.TolerationOpLt, corev1.TolerationOpGt:
		want, err1 := strconv.ParseInt(tol.Value, 10, 64)
		have, err2 := strconv.ParseInt(t.Value, 10, 64)
		if err1 != nil || err2 != nil {
			return false
		}
		if tol.Operator == corev1.TolerationOpLt {
			return have < want
		}
		return have > want
	}
	return false
}
