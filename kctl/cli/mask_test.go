package cli

import (
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// A Secret's diff tells which values come, go, change and stay, and none of them.
func TestMaskSecret(t *testing.T) {
	secret := func(data map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"data": data}}
	}
	live := secret(map[string]any{"same": "YQ==", "changed": "YQ==", "gone": "YQ=="})
	merged := secret(map[string]any{"same": "YQ==", "changed": "Yg==", "new": "Yw=="})
	maskSecret(live, merged)
	if want := secret(map[string]any{"same": "***", "changed": "*** (before)", "gone": "***"}); !reflect.DeepEqual(live, want) {
		t.Errorf("live: %v", live)
	}
	if want := secret(map[string]any{"same": "***", "changed": "*** (after)", "new": "***"}); !reflect.DeepEqual(merged, want) {
		t.Errorf("merged: %v", merged)
	}
	maskSecret(nil, secret(nil))
	maskSecret(&unstructured.Unstructured{}, nil)
}
