package codec

import (
	"testing"

	kjson "k8s.io/apimachinery/pkg/runtime/serializer/json"
)

var kindTexts = []string{
	`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x","kind":"no"},"spec":{"containers":[{"kind":"no"}]}}`,
	` { "spec" : [1,2,{"apiVersion":"no"}] , "kind" : "Deployment" , "apiVersion" : "apps/v1" } `,
	`{"kind":"Pod"}`, `{"apiVersion":"v1"}`, `{}`, `[]`, `null`, `"x"`, ``, `{`, `{"kind":"Pod","apiVersion":"v1"`, `{"kind":5,"apiVersion":"v1"}`, `{"kind":null,"apiVersion":"v1"}`,
	`{"kind":{},"apiVersion":"v1"}`, `{"Kind":"Pod","apiVersion":"v1"}`, `{"kind":"Pod","kind":"Node","apiVersion":"v1"}`, `{"kind":"Pod","KIND":"Node","apiVersion":"v1"}`,
	`{"kin\u0064":"Pod","apiVersion":"v1"}`, `{"kind":"P\u006fd","apiVersion":"v1"}`, "{\"\u212aind\":\"Pod\",\"kind\":\"Node\",\"apiVersion\":\"v1\"}", `{"kind":"Pod","apiVersion":"a/b/c"}`,
	`{"kind":"Pod","apiVersion":"v1","x":"\"kind\":\"no\""}`, `{"kind":["Pod"],"apiVersion":"v1"}`, `{"kind":"","kind":"Pod","apiVersion":"v1"}`, `[{"kind":"Pod","apiVersion":"v1"}]`,
	`{"kind" "Pod","apiVersion":"v1"}`, `{"a":"kind","b":"x","apiVersion":"v1","kind":"Pod"}`,
}

// A kind that is found quickly is the one that the usual way finds, in every text that is JSON.
func TestQuickMeta(t *testing.T) {
	for _, text := range kindTexts {
		checkMeta(t, text)
	}
	if _, kind, ok := plainKind([]byte(kindTexts[1])); !ok || kind != "Deployment" {
		t.Errorf("not found in %s", kindTexts[1])
	}
}

func checkMeta(t *testing.T, text string) {
	t.Helper()
	want, err := kjson.DefaultMetaFactory.Interpret([]byte(text))
	if err != nil {
		return // the decoder fails too
	}
	if got, err := (quickMeta{}).Interpret([]byte(text)); err != nil || *got != *want {
		t.Errorf("%s: %v %v, not %v", text, got, err, want)
	}
}

// FuzzQuickMeta is TestQuickMeta with any text.
func FuzzQuickMeta(f *testing.F) {
	for _, text := range kindTexts {
		f.Add(text)
	}
	f.Fuzz(checkMeta)
}
