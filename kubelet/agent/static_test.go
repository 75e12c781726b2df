package agent

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestPlanMirrors shows which mirror pods are made and removed: each static pod has exactly one that shows its present manifest.
func TestPlanMirrors(t *testing.T) {
	static := func(uid string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "web", UID: types.UID(uid)}}
	}
	mirror := func(of string) *corev1.Pod {
		m := static("m")
		m.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: of}
		return m
	}
	deleted := mirror("1")
	deleted.DeletionTimestamp = &metav1.Time{Time: time.Unix(0, 0)}
	none := []*corev1.Pod(nil)
	for name, c := range map[string]struct {
		static, api []*corev1.Pod
		want        string
	}{
		"none yet":            {[]*corev1.Pod{static("1")}, none, "create 1"},
		"as it should be":     {[]*corev1.Pod{static("1")}, []*corev1.Pod{mirror("1")}, ""},
		"of an older file":    {[]*corev1.Pod{static("2")}, []*corev1.Pod{mirror("1")}, "remove m"},
		"deleted by somebody": {[]*corev1.Pod{static("1")}, []*corev1.Pod{deleted}, "remove m"},
		"of no static pod":    {none, []*corev1.Pod{mirror("1")}, "remove m"},
		"a pod of the API":    {none, []*corev1.Pod{static("3")}, ""},
		"its name is taken":   {[]*corev1.Pod{static("1")}, []*corev1.Pod{static("3")}, ""},
	} {
		create, remove := planMirrors(c.static, c.api)
		var got []string
		for _, p := range create {
			got = append(got, "create "+string(p.UID))
		}
		for _, p := range remove {
			got = append(got, "remove "+string(p.UID))
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%s: %q, want %q", name, s, c.want)
		}
	}
}
