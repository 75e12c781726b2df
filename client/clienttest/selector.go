package clienttest

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"bareboat.dev/client"
)

// selector selects objects of one resource.
type selector struct {
	resource  string
	namespace string
	labels    labels.Selector
	fields    fields.Selector
}

func newSelector(k kind, namespace, labelSelector, fieldSelector string) (selector, error) {
	ls, err := labels.Parse(labelSelector)
	if err != nil {
		return selector{}, apierrors.NewBadRequest(fmt.Sprintf("unable to parse requirement: %v", err))
	}
	fs, err := fields.ParseSelector(fieldSelector)
	if err != nil {
		return selector{}, apierrors.NewBadRequest(err.Error())
	}
	for _, r := range fs.Requirements() {
		if !selectable(k.name.resource, r.Field) {
			return selector{}, apierrors.NewBadRequest(fmt.Sprintf("field label not supported: %s", r.Field))
		}
	}
	if !k.namespaced {
		namespace = ""
	}
	return selector{k.name.resource, namespace, ls, fs}, nil
}

func (s selector) matches(r *record) bool {
	if r == nil || (s.namespace != "" && r.obj.GetNamespace() != s.namespace) {
		return false
	}
	if !s.labels.Empty() && !s.labels.Matches(labels.Set(r.obj.GetLabels())) {
		return false
	}
	return s.fields.Empty() || s.fields.Matches(objectFields{r.obj})
}

// selectable tells which field selectors Kubernetes declares for a resource.
func selectable(resource, field string) bool {
	if field == "metadata.name" || field == "metadata.namespace" {
		return true
	}
	declared := map[string][]string{
		"pods": {
			"spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
			"status.phase", "status.podIP", "status.nominatedNodeName",
		},
		"nodes":      {"spec.unschedulable"},
		"namespaces": {"status.phase"},
		"secrets":    {"type"},
		"services":   {"spec.clusterIP", "spec.type"},
		"events": {
			"involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid", "involvedObject.apiVersion",
			"involvedObject.resourceVersion", "involvedObject.fieldPath", "reason", "reportingComponent", "source", "type",
		},
		"jobs":                       {"status.successful"},
		"certificatesigningrequests": {"spec.signerName"},
		"clustertrustbundles":        {"spec.signerName"},
		"podcertificaterequests":     {"spec.signerName", "spec.podName", "spec.nodeName"},
	}
	for _, f := range declared[resource] {
		if f == field {
			return true
		}
	}
	return false
}

// objectFields reads an object's fields by their paths.
type objectFields struct{ obj client.Object }

func (f objectFields) Has(field string) bool { return true }

func (f objectFields) Get(field string) string {
	switch field {
	case "metadata.name":
		return f.obj.GetName()
	case "metadata.namespace":
		return f.obj.GetNamespace()
	case "spec.nodeName":
		if pod, ok := f.obj.(*corev1.Pod); ok {
			return pod.Spec.NodeName
		}
	case "spec.unschedulable":
		if node, ok := f.obj.(*corev1.Node); ok {
			return strconv.FormatBool(node.Spec.Unschedulable)
		}
	case "source":
		if ev, ok := f.obj.(*corev1.Event); ok {
			return ev.Source.Component
		}
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(f.obj)
	if err != nil {
		return ""
	}
	var value any = content
	for _, part := range strings.Split(field, ".") {
		m, ok := value.(map[string]any)
		if !ok {
			return ""
		}
		value = m[part]
	}
	if value == nil {
		return ""
	}
	return fmt.Sprint(value)
}
