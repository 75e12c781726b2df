package patch_test

import (
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/apiserver/patch"
	"bareboat.dev/apiserver/registry/kindtest"
)

// No patch of any type makes the server panic, and what comes out of one is JSON.
func FuzzPatch(f *testing.F) {
	fields, set := newFields(f)
	r, _ := set.Lookup("apps", "v1", "deployments")
	live, _ := kindtest.New(f, r, config)
	f.Add(byte(0), []byte(`[{"op":"copy","from":"/spec","path":"/spec/x"}]`))
	f.Add(byte(1), []byte(`{"spec":null}`))
	f.Add(byte(2), []byte(`{"spec":{"containers":[{"$patch":"delete","name":"a"}],"$setElementOrder/containers":[{"name":"a"}]}}`))
	f.Add(byte(2), []byte(`{"spec":{"containers":null,"$retainKeys":["paused"]}}`))
	f.Add(byte(3), []byte(config))
	f.Fuzz(func(t *testing.T, how byte, body []byte) {
		var after []byte
		var err error
		switch how % 4 {
		case 0:
			after, err = patch.JSON([]byte(before), body)
		case 1:
			after, err = patch.Merge([]byte(before), body)
		case 2:
			after, err = patch.StrategicMerge([]byte(before), body, &corev1.Pod{})
		case 3:
			_, _, _ = fields.Apply(r, "", live, body, patch.ApplyOptions{Manager: "fuzz", Force: true})
			return
		}
		if err == nil && !json.Valid(after) {
			t.Errorf("not JSON: %q", after)
		}
	})
}
