package events_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/apiserver/registry/events"
	"bareboat.dev/apiserver/registry/kindtest"
)

const event = `
apiVersion: events.k8s.io/v1
kind: Event
metadata: {name: e}
eventTime: "2024-01-01T00:00:00.000000Z"
reportingController: example.com/c
reportingInstance: c-1
action: Did
reason: Because
type: Normal
regarding: {kind: Pod, namespace: default, name: p}
`

// Events that kube-apiserver accepts and refuses through events.k8s.io, and why.
func TestEvent(t *testing.T) {
	r := kindtest.Kind(t, events.Resources(), "Event")
	kindtest.Create(t, r, event, []kindtest.Case{
		{Name: "minimal"},
		{Name: "series", Edit: `series: {count: 2, lastObservedTime: "2024-01-01T00:00:00.000000Z"}`},
		{Name: "no time", Edit: "eventTime: null", Want: []string{"eventTime: Required value"}},
		{Name: "controller", Edit: "reportingController: ''", Want: []string{
			"reportingController: Required value", `reportingController: Invalid value: "": name part must be non-empty`,
			`reportingController: Invalid value: "": name part must consist…`}},
		{Name: "type", Edit: "type: Odd", Want: []string{`type: Invalid value: "": has invalid value: Odd`}},
		{Name: "old fields", Edit: `{deprecatedCount: 1, deprecatedSource: {host: h}, deprecatedFirstTimestamp: "2024-01-01T00:00:00Z"}`, Want: []string{
			`count: Invalid value: "": needs to be unset`, `source: Invalid value: "": needs to be unset`,
			`firstTimestamp: Invalid value: "": needs to be unset`}},
		{Name: "bad series", Edit: "series: {count: 1, lastObservedTime: null}", Want: []string{
			`series.count: Invalid value: "": should be at least 2`, "series.lastObservedTime: Required value"}},
		{Name: "texts", Edit: "{action: '', reason: ''}", Want: []string{"action: Required value", "reason: Required value"}},
	})
	kindtest.Update(t, r, event, []kindtest.Case{
		{Name: "series", Edit: `series: {count: 2, lastObservedTime: "2024-01-01T00:00:00.000000Z"}`},
		{Name: "bad series", Edit: "series: {count: 0}", Want: []string{
			`series.count: Invalid value: "": should be at least 2`, "series.lastObservedTime: Required value"}},
		{Name: "the rest", Edit: "{note: new, reason: Other}", Want: []string{
			`message: Invalid value: "new": field is immutable`, `reason: Invalid value: "Other": field is immutable`}},
	})
}

// What is kept is the event of the core group, and nothing is lost on the way there and back.
func TestEventStored(t *testing.T) {
	r := kindtest.Kind(t, events.Resources(), "Event")
	obj, errs := kindtest.New(t, r, kindtest.Edit(t, event, `{note: text, series: {count: 2, lastObservedTime: "2024-01-01T00:00:00.000000Z"}}`))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	kept, err := r.Stored.To(obj)
	if err != nil {
		t.Fatal(err)
	}
	if e := kept.(*corev1.Event); e.Message != "text" || e.InvolvedObject.Name != "p" || e.Series.Count != 2 {
		t.Errorf("kept: %v", e)
	}
	back, err := r.Stored.From(kept)
	if err != nil {
		t.Fatal(err)
	}
	back.GetObjectKind().SetGroupVersionKind(r.Kind)
	kindtest.Same(t, back, obj)
	if got := r.Fields["regarding.name"](obj); got != "p" {
		t.Errorf("regarding.name selects %q", got)
	}
}
