// Package events is events.k8s.io/v1. Its one kind is another form of core/v1 Event and is kept as such, so that every event is
// seen through both groups.
package events

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/core"
)

// Resources returns the group's resources.
func Resources() []*registry.Resource { return []*registry.Resource{events()} }

func events() *registry.Resource {
	r := registry.Via(core.Events(), registry.Resource{
		Kind:    eventsv1.SchemeGroupVersion.WithKind("Event"),
		New:     func() registry.Object { return &eventsv1.Event{} },
		NewList: func() runtime.Object { return &eventsv1.EventList{} },
		Stored: &registry.Stored{
			To:   func(obj registry.Object) (registry.Object, error) { return toCore(obj.(*eventsv1.Event)), nil },
			From: func(kept registry.Object) (registry.Object, error) { return fromCore(kept.(*corev1.Event)), nil },
			Fields: map[string]string{
				"regarding.kind":            "involvedObject.kind",
				"regarding.namespace":       "involvedObject.namespace",
				"regarding.name":            "involvedObject.name",
				"regarding.uid":             "involvedObject.uid",
				"regarding.apiVersion":      "involvedObject.apiVersion",
				"regarding.resourceVersion": "involvedObject.resourceVersion",
				"regarding.fieldPath":       "involvedObject.fieldPath",
				"reason":                    "reason",
				"reportingController":       "reportingComponent",
				"type":                      "type",
			},
		},
	})
	r.Strategy.ValidateName, r.Strategy.AnyFinalizer = apivalidation.NameIsDNSSubdomain, false // unlike in the old group
	r.Strategy.Validate = registry.Checks(func(e *check.Errors, ev *eventsv1.Event) { checkEvent(e, toCore(ev)) })
	r.Strategy.ValidateUpdate = registry.ChecksChange(func(e *check.Errors, ev, old *eventsv1.Event) {
		checkEventUpdate(e, toCore(ev), toCore(old))
	})
	return r
}

func toCore(e *eventsv1.Event) *corev1.Event {
	out := &corev1.Event{
		ObjectMeta: e.ObjectMeta, InvolvedObject: e.Regarding, Reason: e.Reason, Message: e.Note, Source: e.DeprecatedSource,
		FirstTimestamp: e.DeprecatedFirstTimestamp, LastTimestamp: e.DeprecatedLastTimestamp, Count: e.DeprecatedCount,
		Type: e.Type, EventTime: e.EventTime, Action: e.Action, Related: e.Related,
		ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance,
	}
	if e.Series != nil {
		out.Series = &corev1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out
}

func fromCore(e *corev1.Event) *eventsv1.Event {
	out := &eventsv1.Event{
		ObjectMeta: e.ObjectMeta, Regarding: e.InvolvedObject, Reason: e.Reason, Note: e.Message, DeprecatedSource: e.Source,
		DeprecatedFirstTimestamp: e.FirstTimestamp, DeprecatedLastTimestamp: e.LastTimestamp, DeprecatedCount: e.Count,
		Type: e.Type, EventTime: e.EventTime, Action: e.Action, Related: e.Related,
		ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance,
	}
	if e.Series != nil {
		out.Series = &eventsv1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out
}

// unset is what is said of the fields that only the older form of events has.
const unset = "needs to be unset"

// checkEvent is stricter than the core group: an event is new here, and has what new events have.
func checkEvent(e *check.Errors, ev *corev1.Event) {
	core.CheckEvent(e, ev, "reportingController")
	checkSeries(e, ev.Series)
	if ev.EventTime.IsZero() {
		e.Required(field.NewPath("eventTime"), "")
	}
	if ev.Type != corev1.EventTypeNormal && ev.Type != corev1.EventTypeWarning {
		e.Invalid(field.NewPath("type"), "", fmt.Sprintf("has invalid value: %v", ev.Type))
	}
	if !ev.FirstTimestamp.IsZero() {
		e.Invalid(field.NewPath("firstTimestamp"), "", unset)
	}
	if !ev.LastTimestamp.IsZero() {
		e.Invalid(field.NewPath("lastTimestamp"), "", unset)
	}
	if ev.Count != 0 {
		e.Invalid(field.NewPath("count"), "", unset)
	}
	if ev.Source != (corev1.EventSource{}) {
		e.Invalid(field.NewPath("source"), "", unset)
	}
}

func checkSeries(e *check.Errors, s *corev1.EventSeries) {
	if s == nil {
		return
	}
	at := field.NewPath("series")
	if s.Count < 2 {
		e.Invalid(at.Child("count"), "", "should be at least 2")
	}
	if s.LastObservedTime.IsZero() {
		e.Required(at.Child("lastObservedTime"), "")
	}
}

// checkEventUpdate: nothing but the series and the metadata may change.
func checkEventUpdate(e *check.Errors, ev, old *corev1.Event) {
	core.CheckEvent(e, ev, "reportingController")
	if !equality.Semantic.DeepEqual(ev.Series, old.Series) {
		checkSeries(e, ev.Series)
	}
	fixed := func(name string, value, before any) { e.Immutable(field.NewPath(name), value, before) }
	fixed("involvedObject", ev.InvolvedObject, old.InvolvedObject)
	fixed("reason", ev.Reason, old.Reason)
	fixed("message", ev.Message, old.Message)
	fixed("source", ev.Source, old.Source)
	fixed("firstTimestamp", ev.FirstTimestamp, old.FirstTimestamp)
	fixed("lastTimestamp", ev.LastTimestamp, old.LastTimestamp)
	fixed("count", ev.Count, old.Count)
	fixed("type", ev.Type, old.Type)
	fixed("eventTime", micros(ev.EventTime), micros(old.EventTime))
	fixed("action", ev.Action, old.Action)
	fixed("related", ev.Related, old.Related)
	fixed("reportingController", ev.ReportingController, old.ReportingController)
	fixed("reportingInstance", ev.ReportingInstance, old.ReportingInstance)
}

// micros: protobuf keeps nanoseconds and JSON microseconds, so a client may send back less than it was given.
func micros(t metav1.MicroTime) metav1.MicroTime {
	return metav1.MicroTime{Time: t.Truncate(time.Microsecond)}
}
