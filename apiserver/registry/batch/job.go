package batch

import (
	"fmt"
	"maps"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/podspec"
)

func jobs() *registry.Resource {
	columns := []registry.Column{
		registry.NameColumn(),
		registry.Text("Status", "Status of the job.", jobState),
		registry.Text("Completions", batchv1.JobStatus{}.SwaggerDoc()["succeeded"], jobCompletions),
		registry.TimedText("Duration", "Time required to complete the job.", jobDuration),
		registry.AgeColumn(),
	}
	columns = append(columns, podspec.TemplateColumns(func(j *batchv1.Job) *corev1.PodTemplateSpec { return &j.Spec.Template })...)
	columns = append(columns, registry.Text("Selector", batchv1.JobSpec{}.SwaggerDoc()["selector"],
		func(j *batchv1.Job) string { return metav1.FormatLabelSelector(j.Spec.Selector) }).Wide())
	warnings, changeWarnings := podspec.TemplateWarnings(func(j *batchv1.Job) *corev1.PodTemplateSpec { return &j.Spec.Template }, jobWarnings, field.NewPath("spec", "template"))
	return &registry.Resource{
		Kind: kind("Job"), Plural: "jobs", Singular: "job", Categories: []string{"all"},
		Namespaced: true, KeyPrefix: "/registry/jobs/",
		New:     func() registry.Object { return &batchv1.Job{} },
		NewList: func() runtime.Object { return &batchv1.JobList{} },
		Strategy: registry.Strategy{
			Default: registry.On(func(j *batchv1.Job) {
				if len(j.Labels) == 0 && j.Spec.Template.Labels != nil {
					j.Labels = maps.Clone(j.Spec.Template.Labels)
				}
				defaultJobSpec(&j.Spec)
			}),
			PrepareCreate:  registry.On(func(j *batchv1.Job) { j.Status = batchv1.JobStatus{} }),
			Named:          registry.On(generateSelector),
			PrepareUpdate:  registry.OnChange(func(j, old *batchv1.Job) { j.Status = old.Status }),
			Validate:       registry.Checks(checkJob),
			ValidateUpdate: registry.ChecksChange(checkJobUpdate),
			ValidateName:   apivalidation.NameIsDNSSubdomain,
			SpecChanged: registry.Differs(func(j, old *batchv1.Job) bool {
				return !equality.Semantic.DeepEqual(j.Spec, old.Spec)
			}),
			// Kubernetes has kept this for jobs alone: their pods outlive them unless asked otherwise.
			DefaultPropagation: metav1.DeletePropagationBackground,

			Warnings:                 warnings,
			ChangeWarnings:           changeWarnings,
			AllowUnconditionalUpdate: true,
		},
		Fields: map[string]func(registry.Object) string{
			"status.successful": registry.Field(func(j *batchv1.Job) string { return strconv.Itoa(int(j.Status.Succeeded)) }),
		},
		UnknownField: "field label %q not supported for Job",
		Columns:      columns,
		Subresources: map[string]registry.Subresource{
			"status": registry.StatusSubresource(func(j, body *batchv1.Job) { j.Status = body.Status }, checkJobStatus),
		},
	}
}

func defaultJobSpec(s *batchv1.JobSpec) {
	if s.Completions == nil && s.Parallelism == nil {
		s.Completions = new(int32(1))
	}
	setIfNil(&s.Parallelism, 1)
	if s.BackoffLimit == nil {
		s.BackoffLimit = new(int32(6))
		if s.BackoffLimitPerIndex != nil {
			*s.BackoffLimit = 1<<31 - 1 // each index has its own limit
		}
	}
	setIfNil(&s.CompletionMode, batchv1.NonIndexedCompletion)
	setIfNil(&s.Suspend, false)
	setIfNil(&s.ManualSelector, false)
	if s.PodReplacementPolicy == nil {
		s.PodReplacementPolicy = new(batchv1.TerminatingOrFailed)
		if s.PodFailurePolicy != nil {
			*s.PodReplacementPolicy = batchv1.Failed
		}
	}
	if s.PodFailurePolicy != nil {
		for i := range s.PodFailurePolicy.Rules {
			for j := range s.PodFailurePolicy.Rules[i].OnPodConditions {
				if c := &s.PodFailurePolicy.Rules[i].OnPodConditions[j]; c.Status == "" {
					c.Status = corev1.ConditionTrue
				}
			}
		}
	}
	podspec.Default(&s.Template.Spec)
}

// The labels that bind pods to their job: today's names and those that were there before.
const (
	uidLabel        = batchv1.ControllerUidLabel
	nameLabel       = batchv1.JobNameLabel
	legacyUIDLabel  = "controller-uid"
	legacyNameLabel = "job-name"
)

// generateSelector makes the job select its own pods and no others, unless its creator wants to choose.
func generateSelector(j *batchv1.Job) {
	if j.Spec.ManualSelector != nil && *j.Spec.ManualSelector {
		return
	}
	if j.Spec.Template.Labels == nil {
		j.Spec.Template.Labels = map[string]string{}
	}
	// A job without labels of its own has its pods', those that are added here too.
	if maps.Equal(j.Labels, j.Spec.Template.Labels) {
		defer func() { j.Labels = maps.Clone(j.Spec.Template.Labels) }()
	}
	add := func(labels map[string]string, key, value string) {
		if _, set := labels[key]; !set { // what is set and wrong is refused by validation
			labels[key] = value
		}
	}
	for _, key := range []string{nameLabel, legacyNameLabel} {
		add(j.Spec.Template.Labels, key, j.Name)
	}
	for _, key := range []string{uidLabel, legacyUIDLabel} {
		add(j.Spec.Template.Labels, key, string(j.UID))
	}
	setIfNil(&j.Spec.Selector, metav1.LabelSelector{})
	if j.Spec.Selector.MatchLabels == nil {
		j.Spec.Selector.MatchLabels = map[string]string{}
	}
	add(j.Spec.Selector.MatchLabels, uidLabel, string(j.UID))
}

func hasJobCondition(j *batchv1.Job, t batchv1.JobConditionType) bool {
	for _, c := range j.Status.Conditions {
		if c.Type == t {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func jobState(j *batchv1.Job) string {
	switch {
	case hasJobCondition(j, batchv1.JobComplete):
		return "Complete"
	case hasJobCondition(j, batchv1.JobFailed):
		return "Failed"
	case j.DeletionTimestamp != nil:
		return "Terminating"
	case hasJobCondition(j, batchv1.JobSuspended):
		return "Suspended"
	case hasJobCondition(j, batchv1.JobFailureTarget):
		return "FailureTarget"
	case hasJobCondition(j, batchv1.JobSuccessCriteriaMet):
		return "SuccessCriteriaMet"
	}
	return "Running"
}

func jobCompletions(j *batchv1.Job) string {
	if j.Spec.Completions != nil {
		return fmt.Sprintf("%d/%d", j.Status.Succeeded, *j.Spec.Completions)
	}
	if j.Spec.Parallelism != nil && *j.Spec.Parallelism > 1 {
		return fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, *j.Spec.Parallelism)
	}
	return fmt.Sprintf("%d/1", j.Status.Succeeded)
}

func jobDuration(j *batchv1.Job, now time.Time) string {
	switch {
	case j.Status.StartTime == nil:
		return ""
	case j.Status.CompletionTime == nil:
		return duration.HumanDuration(now.Sub(j.Status.StartTime.Time))
	}
	return duration.HumanDuration(j.Status.CompletionTime.Sub(j.Status.StartTime.Time))
}

// manyPods is the parallelism from which a large job's status may not be able to list the indexes that failed.
const manyPods = 10_000

func jobWarnings(j *batchv1.Job) []string {
	s := &j.Spec
	if indexed(s) && s.Completions != nil && *s.Completions > maxFailedIndexes && s.Parallelism != nil && *s.Parallelism > manyPods {
		return []string{"spec: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, " +
			"Kubernetes might not be able to track completedIndexes when a big number of indexes fail"}
	}
	return nil
}
