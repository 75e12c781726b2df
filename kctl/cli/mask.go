package cli

import "k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

// What stands in a diff in place of a Secret's values, as kubectl diff has it: they must not end in a terminal's scrollback
// or a build's log, yet it must be seen which of them change.
const (
	maskSame   = "***"
	maskBefore = "*** (before)"
	maskAfter  = "*** (after)"
)

// maskSecret replaces the values of a Secret as it is and as it would be; either may be nil.
func maskSecret(live, merged *unstructured.Unstructured) {
	before, after := secretData(live), secretData(merged)
	for key, value := range before {
		other, both := after[key]
		switch {
		case both && other == value:
			before[key], after[key] = maskSame, maskSame
		case both:
			before[key], after[key] = maskBefore, maskAfter
		default:
			before[key] = maskSame
		}
	}
	for key := range after {
		if _, both := before[key]; !both {
			after[key] = maskSame
		}
	}
}

// secretData is the Secret's own map, nil if it has none.
func secretData(u *unstructured.Unstructured) map[string]any {
	if u == nil {
		return nil
	}
	data, _ := u.Object["data"].(map[string]any)
	return data
}
