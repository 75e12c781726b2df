package core

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

func pods() *registry.Resource {
	return &registry.Resource{
		Kind: kind("Pod"), Plural: "pods", Singular: "pod", ShortNames: []string{"po"}, Categories: []string{"all"},
		Namespaced: true, KeyPrefix: "/registry/pods/",
		New:     func() registry.Object { return &corev1.Pod{} },
		NewList: func() runtime.Object { return &corev1.PodList{} },
		Strategy: registry.Strategy{
			Default:        registry.On(defaultPod),
			PrepareCreate:  registry.On(preparePod),
			PrepareUpdate:  registry.OnChange(preparePodUpdate),
			Validate:       registry.Checks(checkPodCreate),
			ValidateUpdate: registry.ChecksChange(checkPodUpdate),
			ValidateName:   dnsSubdomain,
			// The node that a scheduler chose is no change of what the user asked for.
			SpecChanged: registry.Differs(func(p, old *corev1.Pod) bool {
				before := old.Spec
				before.NodeName = p.Spec.NodeName
				return !equality.Semantic.DeepEqual(p.Spec, before)
			}),
			GracePeriod: podGracePeriod,
			Warnings: func(obj registry.Object) []string {
				p := obj.(*corev1.Pod)
				return append(podspec.PodNameWarnings(p.Name), podspec.Warnings(&p.Spec, p.Annotations, nil)...)
			},
			// A pod's changes are seldom a human's.
			ChangeWarnings: func(_, _ registry.Object) []string { return nil },

			AllowUnconditionalUpdate: true,
		},
		Fields:        podFields(),
		IndexedFields: []string{"spec.nodeName"},
		Columns:       podColumns(),
		Subresources:  podSubresources(),
	}
}

func podSubresources() map[string]registry.Subresource {
	eviction := registry.ConnectSubresource("create")
	eviction.Kind = policyv1.SchemeGroupVersion.WithKind("Eviction")
	eviction.New = func() runtime.Object { return &policyv1.Eviction{} }
	return map[string]registry.Subresource{
		"status": registry.StatusSubresource(takePodStatus, checkPodStatusUpdate),
		"binding": {
			Verbs: []string{"create"}, Kind: kind("Binding"),
			New:   func() runtime.Object { return &corev1.Binding{} },
			Apply: bindPod,
		},
		"ephemeralcontainers": {
			Verbs: []string{"get", "patch", "update"},
			Apply: func(old registry.Object, body runtime.Object, _ time.Time) (registry.Object, error) {
				p := old.DeepCopyObject().(*corev1.Pod)
				p.Spec.EphemeralContainers = body.DeepCopyObject().(*corev1.Pod).Spec.EphemeralContainers
				podspec.Default(&p.Spec)
				return p, nil
			},
			Validate: registry.ChecksChange(checkEphemeralUpdate),
		},
		"resize": {
			Verbs:    []string{"get", "patch", "update"},
			Apply:    resizePod,
			Validate: registry.ChecksChange(checkResize),
		},
		"eviction":    eviction,
		"log":         registry.ConnectSubresource("get"),
		"exec":        registry.StreamSubresource(corev1.SchemeGroupVersion.WithKind("PodExecOptions"), "create", "get"),
		"attach":      registry.StreamSubresource(corev1.SchemeGroupVersion.WithKind("PodAttachOptions"), "create", "get"),
		"portforward": registry.StreamSubresource(corev1.SchemeGroupVersion.WithKind("PodPortForwardOptions"), "create", "get"),
		"proxy":       registry.StreamSubresource(corev1.SchemeGroupVersion.WithKind("PodProxyOptions"), "create", "delete", "get", "patch", "update"),
	}
}

func defaultPod(p *corev1.Pod) {
	podspec.Default(&p.Spec)
	podspec.DefaultPod(p)
}

func preparePod(p *corev1.Pod) {
	p.Generation = 1
	p.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: podspec.QOSClass(p)}
	if len(p.Spec.SchedulingGates) > 0 {
		p.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonSchedulingGated,
			Message: "Scheduling is blocked due to non-empty scheduling gates",
		}}
	}
	podspec.MergeLabelKeys(p)
}

func preparePodUpdate(p, old *corev1.Pod) {
	p.Status = old.Status
	// The condition that the gates set goes with the last of them.
	if len(old.Spec.SchedulingGates) > 0 && len(p.Spec.SchedulingGates) == 0 {
		p.Status.Conditions = slices.DeleteFunc(slices.Clone(p.Status.Conditions), func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonSchedulingGated
		})
	}
}

// podGracePeriod: a pod that no node runs, or that has ended, is removed at once.
func podGracePeriod(obj registry.Object, requested *int64) time.Duration {
	p := obj.(*corev1.Pod)
	var seconds int64
	if requested != nil {
		seconds = *requested
	} else if p.Spec.TerminationGracePeriodSeconds != nil {
		seconds = *p.Spec.TerminationGracePeriodSeconds
	}
	if p.Spec.NodeName == "" || p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
		return 0
	}
	if seconds < 0 {
		seconds = 1
	}
	return time.Duration(seconds) * time.Second
}

// bindPod is the binding subresource: it gives the pod its node.
func bindPod(old registry.Object, body runtime.Object, now time.Time) (registry.Object, error) {
	p, b := old.DeepCopyObject().(*corev1.Pod), body.(*corev1.Binding)
	if errs := checkBinding(b); len(errs) > 0 {
		return nil, apierrors.NewInvalid(kind("Binding").GroupKind(), p.Name, errs)
	}
	refuse := func(format string, args ...any) error {
		return apierrors.NewConflict(schema.GroupResource{Resource: "pods/binding"}, p.Name, fmt.Errorf(format, args...))
	}
	switch {
	case b.UID != "" && b.UID != p.UID:
		return nil, refuse("Precondition failed: UID in precondition: %v, UID in object meta: %v", b.UID, p.UID)
	case p.DeletionTimestamp != nil:
		return nil, refuse("pod %s is being deleted, cannot be assigned to a host", p.Name)
	case p.Spec.NodeName != "":
		return nil, refuse("pod %v is already assigned to node %q", p.Name, p.Spec.NodeName)
	case len(p.Spec.SchedulingGates) > 0:
		return nil, refuse("pod %v has non-empty .spec.schedulingGates", p.Name)
	}
	p.Spec.NodeName = b.Target.Name
	for key, value := range b.Annotations {
		metav1.SetMetaDataAnnotation(&p.ObjectMeta, key, value)
	}
	for key, value := range b.Labels {
		metav1.SetMetaDataLabel(&p.ObjectMeta, key, value)
	}
	p.Status.NominatedNodeName = ""
	setPodCondition(&p.Status, corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
		ObservedGeneration: p.Generation + 1,
	})
	return p, nil
}

func setPodCondition(s *corev1.PodStatus, c corev1.PodCondition) {
	for i := range s.Conditions {
		if s.Conditions[i].Type == c.Type {
			if s.Conditions[i].Status == c.Status {
				c.LastTransitionTime = s.Conditions[i].LastTransitionTime
			}
			s.Conditions[i] = c
			return
		}
	}
	s.Conditions = append(s.Conditions, c)
}

func checkBinding(b *corev1.Binding) field.ErrorList {
	var e check.Errors
	if b.Target.Kind != "" && b.Target.Kind != "Node" {
		e.Add(field.NotSupported(field.NewPath("target", "kind"), b.Target.Kind, []string{"Node", "<empty>"}))
	}
	e.Present(field.NewPath("target", "name"), b.Target.Name)
	return e.List
}

func podFields() map[string]func(registry.Object) string {
	of := registry.Field[*corev1.Pod]
	return map[string]func(registry.Object) string{
		"spec.nodeName":            of(func(p *corev1.Pod) string { return p.Spec.NodeName }),
		"spec.host":                of(func(p *corev1.Pod) string { return p.Spec.NodeName }), // as it was called once
		"spec.restartPolicy":       of(func(p *corev1.Pod) string { return string(p.Spec.RestartPolicy) }),
		"spec.schedulerName":       of(func(p *corev1.Pod) string { return p.Spec.SchedulerName }),
		"spec.serviceAccountName":  of(func(p *corev1.Pod) string { return p.Spec.ServiceAccountName }),
		"spec.hostNetwork":         of(func(p *corev1.Pod) string { return strconv.FormatBool(p.Spec.HostNetwork) }),
		"status.phase":             of(func(p *corev1.Pod) string { return string(p.Status.Phase) }),
		"status.podIP":             of(podIP),
		"status.podIPs":            of(podIP),
		"status.nominatedNodeName": of(func(p *corev1.Pod) string { return p.Status.NominatedNodeName }),
	}
}

func podIP(p *corev1.Pod) string {
	if len(p.Status.PodIPs) > 0 {
		return p.Status.PodIPs[0].IP
	}
	return p.Status.PodIP
}

func podColumns() []registry.Column {
	status, spec := corev1.PodStatus{}.SwaggerDoc(), corev1.PodSpec{}.SwaggerDoc()
	part := func(name, doc string, get func(podSummary) string) registry.Column {
		return registry.TimedText(name, doc, func(p *corev1.Pod, now time.Time) string { return get(summarize(p, now)) })
	}
	return []registry.Column{
		registry.NameColumn(),
		part("Ready", "The aggregate readiness state of this pod for accepting traffic.", func(s podSummary) string { return s.ready }),
		part("Status", "The aggregate status of the containers in this pod.", func(s podSummary) string { return s.status }),
		part("Restarts", "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
			func(s podSummary) string { return s.restarts }),
		registry.AgeColumn(),
		registry.Text("IP", status["podIP"], func(p *corev1.Pod) string { return registry.OrNone(podIP(p)) }).Wide(),
		registry.Text("Node", spec["nodeName"], func(p *corev1.Pod) string { return registry.OrNone(p.Spec.NodeName) }).Wide(),
		registry.Text("Nominated Node", status["nominatedNodeName"],
			func(p *corev1.Pod) string { return registry.OrNone(p.Status.NominatedNodeName) }).Wide(),
		registry.Text("Readiness Gates", spec["readinessGates"], readinessGates).Wide(),
	}
}

func readinessGates(p *corev1.Pod) string {
	if len(p.Spec.ReadinessGates) == 0 {
		return "<none>"
	}
	met := 0
	for _, g := range p.Spec.ReadinessGates {
		if hasCondition(p, g.ConditionType) {
			met++
		}
	}
	return fmt.Sprintf("%d/%d", met, len(p.Spec.ReadinessGates))
}

func hasCondition(p *corev1.Pod, t corev1.PodConditionType) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == t && c.Status == corev1.ConditionTrue
	})
}
