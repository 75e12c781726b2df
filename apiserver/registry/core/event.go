package core

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

// Events is the resource, of which events.k8s.io is another form.
func Events() *registry.Resource {
	return &registry.Resource{
		Kind: kind("Event"), Plural: "events", Singular: "event", ShortNames: []string{"ev"},
		Namespaced: true, KeyPrefix: "/registry/events/",
		New:     func() registry.Object { return &corev1.Event{} },
		NewList: func() runtime.Object { return &corev1.EventList{} },
		Strategy: registry.Strategy{
			Validate: registry.Checks(checkEvent),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, ev, _ *corev1.Event) {
				checkEvent(e, ev)
			}),
			// Older clients name events as they like.
			ValidateName: path.ValidatePathSegmentName,
			AnyFinalizer: true,
			Uncollected:  true,

			AllowCreateOnUpdate:      true,
			AllowUnconditionalUpdate: true,
		},
		Fields:  eventFields(),
		Columns: eventColumns(),
	}
}

// The bounds of an event's texts.
const (
	maxEventName    = 128 // reportingInstance, action, reason
	maxEventMessage = 1024
)

func checkEvent(e *check.Errors, ev *corev1.Event) { CheckEvent(e, ev, "reportingComponent") }

// CheckEvent checks an event in either group; controller is what the group calls the field of that meaning.
func CheckEvent(e *check.Errors, ev *corev1.Event, controller string) {
	mismatch := func() {
		e.Invalid(field.NewPath("involvedObject", "namespace"), ev.InvolvedObject.Namespace, "does not match event.namespace")
	}
	if ev.EventTime.IsZero() {
		// Old events: about an object of their own namespace, or without one in default.
		about := ev.InvolvedObject.Namespace
		if about == "" && ev.Namespace != metav1.NamespaceNone && ev.Namespace != metav1.NamespaceDefault || about != "" && ev.Namespace != about {
			mismatch()
		}
	} else {
		if ev.InvolvedObject.Namespace == "" && ev.Namespace != metav1.NamespaceDefault && ev.Namespace != metav1.NamespaceSystem {
			mismatch()
		}
		checkNewEvent(e, ev, field.NewPath(controller))
	}
	e.Each(field.NewPath("namespace"), ev.Namespace, validation.IsDNS1123Subdomain(ev.Namespace))
}

// checkNewEvent holds events that have an event time to the rules of events.k8s.io.
func checkNewEvent(e *check.Errors, ev *corev1.Event, controller *field.Path) {
	e.Present(controller, ev.ReportingController)
	e.QualifiedName(controller, ev.ReportingController)
	text := func(name, value string, longest int, required bool) {
		at := field.NewPath(name)
		if required {
			e.Present(at, value)
		}
		if len(value) > longest {
			e.Invalid(at, "", fmt.Sprintf("can have at most %v characters", longest))
		}
	}
	text("reportingInstance", ev.ReportingInstance, maxEventName, true)
	text("action", ev.Action, maxEventName, true)
	text("reason", ev.Reason, maxEventName, true)
	text("message", ev.Message, maxEventMessage, false)
}

func eventFields() map[string]func(registry.Object) string {
	of := registry.Field[*corev1.Event]
	return map[string]func(registry.Object) string{
		"involvedObject.kind":            of(func(e *corev1.Event) string { return e.InvolvedObject.Kind }),
		"involvedObject.namespace":       of(func(e *corev1.Event) string { return e.InvolvedObject.Namespace }),
		"involvedObject.name":            of(func(e *corev1.Event) string { return e.InvolvedObject.Name }),
		"involvedObject.uid":             of(func(e *corev1.Event) string { return string(e.InvolvedObject.UID) }),
		"involvedObject.apiVersion":      of(func(e *corev1.Event) string { return e.InvolvedObject.APIVersion }),
		"involvedObject.resourceVersion": of(func(e *corev1.Event) string { return e.InvolvedObject.ResourceVersion }),
		"involvedObject.fieldPath":       of(func(e *corev1.Event) string { return e.InvolvedObject.FieldPath }),
		"reason":                         of(func(e *corev1.Event) string { return e.Reason }),
		"reportingComponent":             of(func(e *corev1.Event) string { return e.ReportingController }),
		"source":                         of(eventSource),
		"type":                           of(func(e *corev1.Event) string { return e.Type }),
	}
}

// eventSource is who reported: the old field, or the new one where the old is empty.
func eventSource(e *corev1.Event) string {
	if e.Source.Component != "" {
		return e.Source.Component
	}
	return e.ReportingController
}

func eventColumns() []registry.Column {
	doc, object := corev1.Event{}.SwaggerDoc(), corev1.ObjectReference{}.SwaggerDoc()
	name := registry.NameColumn().Wide()
	return []registry.Column{
		registry.TimedText("Last Seen", doc["lastTimestamp"], lastSeen),
		registry.Text("Type", doc["type"], func(e *corev1.Event) string { return e.Type }),
		registry.Text("Reason", doc["reason"], func(e *corev1.Event) string { return e.Reason }),
		registry.Text("Object", doc["involvedObject"], eventObject),
		registry.Text("Subobject", object["fieldPath"], func(e *corev1.Event) string { return e.InvolvedObject.FieldPath }).Wide(),
		registry.Text("Source", doc["source"], sourceText).Wide(),
		registry.Text("Message", doc["message"], func(e *corev1.Event) string { return strings.TrimSpace(e.Message) }),
		registry.TimedText("First Seen", doc["firstTimestamp"], firstSeen).Wide(),
		registry.NumericText("Count", doc["count"], eventCount).Wide(),
		name,
	}
}

func lastSeen(e *corev1.Event, now time.Time) string {
	last := e.LastTimestamp
	if e.Series != nil {
		last = metav1.Time{Time: e.Series.LastObservedTime.Time}
	}
	if last.IsZero() {
		return firstSeen(e, now)
	}
	return registry.Age(last, now)
}

func firstSeen(e *corev1.Event, now time.Time) string {
	if e.FirstTimestamp.IsZero() {
		return registry.Age(metav1.Time{Time: e.EventTime.Time}, now)
	}
	return registry.Age(e.FirstTimestamp, now)
}

func eventObject(e *corev1.Event) string {
	if e.InvolvedObject.Name == "" {
		return strings.ToLower(e.InvolvedObject.Kind)
	}
	return strings.ToLower(e.InvolvedObject.Kind) + "/" + e.InvolvedObject.Name
}

func sourceText(e *corev1.Event) string {
	component, instance := e.Source.Component, e.Source.Host
	if component == "" {
		component = e.ReportingController
	}
	if instance == "" {
		instance = e.ReportingInstance
	}
	if instance == "" {
		return component
	}
	return component + ", " + instance
}

func eventCount(e *corev1.Event) string {
	switch {
	case e.Series != nil:
		return fmt.Sprint(e.Series.Count)
	case e.Count == 0:
		return "1"
	}
	return fmt.Sprint(e.Count)
}
