package patch_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/apiserver/patch"
)

const before = `{"spec":{"replicas":1,"containers":[{"name":"a","image":"x"}],"paused":true}}`

// JSON patches apply as RFC 6902 says, and what does not fit is 422.
func TestJSON(t *testing.T) {
	for _, tc := range []struct{ name, patch, want, err string }{
		{name: "replace", patch: `[{"op":"replace","path":"/spec/replicas","value":3}]`,
			want: `{"spec":{"replicas":3,"containers":[{"name":"a","image":"x"}],"paused":true}}`},
		{name: "test and remove", patch: `[{"op":"test","path":"/spec/replicas","value":1},{"op":"remove","path":"/spec/paused"}]`,
			want: `{"spec":{"replicas":1,"containers":[{"name":"a","image":"x"}]}}`},
		{name: "test fails", patch: `[{"op":"test","path":"/spec/replicas","value":2}]`, err: "422"},
		{name: "missing", patch: `[{"op":"remove","path":"/spec/nothing"}]`, err: "422"},
		{name: "not a list", patch: `{"op":"remove"}`, err: "400"},
		{name: "copies of copies", patch: doubling(40), err: "422"},
		{name: "too many", patch: "[" + strings.TrimSuffix(strings.Repeat(`{"op":"test","path":"/spec/replicas","value":1},`, patch.MaxOperations+1), ",") + "]", err: "413"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			after, err := patch.JSON([]byte(before), []byte(tc.patch))
			if tc.err != "" {
				if status, ok := err.(apierrors.APIStatus); !ok || fmt.Sprint(status.Status().Code) != tc.err {
					t.Fatalf("%v", err)
				}
				return
			}
			if err != nil || string(after) != tc.want {
				t.Errorf("%s %v", after, err)
			}
		})
	}
}

func doubling(n int) string {
	return "[" + strings.TrimSuffix(strings.Repeat(`{"op":"copy","from":"/spec/containers","path":"/spec/containers/-"},`, n), ",") + "]"
}

// Merge patches apply as RFC 7396 says.
func TestMerge(t *testing.T) {
	after, err := patch.Merge([]byte(before), []byte(`{"spec":{"paused":null,"replicas":2}}`))
	if err != nil || string(after) != `{"spec":{"containers":[{"name":"a","image":"x"}],"replicas":2}}` &&
		string(after) != `{"spec":{"replicas":2,"containers":[{"name":"a","image":"x"}]}}` {
		t.Errorf("%s %v", after, err)
	}
	for _, bad := range []string{`[]`, `null`, `1`, `{`} {
		if _, err := patch.Merge([]byte(before), []byte(bad)); !apierrors.IsBadRequest(err) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// Strategic merge patches merge lists by the type's keys and know its directives.
func TestStrategicMerge(t *testing.T) {
	for _, tc := range []struct{ name, patch, want string }{
		{"by key", `{"spec":{"containers":[{"name":"a","image":"y"},{"name":"b","image":"z"}]}}`, `[{"image":"y","name":"a"},{"image":"z","name":"b"}]`},
		{"delete", `{"spec":{"containers":[{"$patch":"delete","name":"a"}]}}`, `[]`},
		{"replace", `{"spec":{"containers":[{"$patch":"replace"},{"name":"c"}]}}`, `[{"name":"c"}]`},
	} {
		after, err := patch.StrategicMerge([]byte(before), []byte(tc.patch), &corev1.Pod{})
		if err != nil || !bytes.Contains(after, []byte(`"containers":`+tc.want)) {
			t.Errorf("%s: %s %v", tc.name, after, err)
		}
	}
	for _, bad := range []string{`{"spec":{"containers":[{"image":"y"}]}}`, `[]`, `{"spec":{"containers":[{"$patch":"twist"}]}}`} {
		if _, err := patch.StrategicMerge([]byte(before), []byte(bad), &corev1.Pod{}); !apierrors.IsBadRequest(err) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
