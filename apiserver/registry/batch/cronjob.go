package batch

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

func cronJobs() *registry.Resource {
	doc := batchv1.CronJobSpec{}.SwaggerDoc()
	columns := []registry.Column{
		registry.NameColumn(),
		registry.Text("Schedule", doc["schedule"], func(c *batchv1.CronJob) string { return c.Spec.Schedule }),
		registry.Text("Timezone", doc["timeZone"], func(c *batchv1.CronJob) string {
			if c.Spec.TimeZone == nil {
				return "<none>"
			}
			return *c.Spec.TimeZone
		}),
		suspendColumn(doc["suspend"]),
		registry.Number("Active", batchv1.CronJobStatus{}.SwaggerDoc()["active"], func(c *batchv1.CronJob) int64 { return int64(len(c.Status.Active)) }),
		registry.TimedText("Last Schedule", batchv1.CronJobStatus{}.SwaggerDoc()["lastScheduleTime"], func(c *batchv1.CronJob, now time.Time) string {
			if c.Status.LastScheduleTime == nil {
				return "<none>"
			}
			return registry.Age(*c.Status.LastScheduleTime, now)
		}),
		registry.AgeColumn(),
	}
	columns = append(columns, podspec.TemplateColumns(func(c *batchv1.CronJob) *corev1.PodTemplateSpec { return &c.Spec.JobTemplate.Spec.Template })...)
	columns = append(columns, registry.Text("Selector", batchv1.JobSpec{}.SwaggerDoc()["selector"], func(c *batchv1.CronJob) string {
		if s := c.Spec.JobTemplate.Spec.Selector; s != nil {
			return registry.LabelsText(s.MatchLabels)
		}
		return "<none>"
	}).Wide())
	warnings, changeWarnings := podspec.TemplateWarnings(func(c *batchv1.CronJob) *corev1.PodTemplateSpec { return &c.Spec.JobTemplate.Spec.Template }, nil, field.NewPath("spec", "jobTemplate", "spec", "template"))
	return &registry.Resource{
		Kind: kind("CronJob"), Plural: "cronjobs", Singular: "cronjob", ShortNames: []string{"cj"}, Categories: []string{"all"},
		Namespaced: true, KeyPrefix: "/registry/cronjobs/",
		New:     func() registry.Object { return &batchv1.CronJob{} },
		NewList: func() runtime.Object { return &batchv1.CronJobList{} },
		Strategy: registry.Strategy{
			Default:        registry.On(defaultCronJob),
			PrepareCreate:  registry.On(func(c *batchv1.CronJob) { c.Status = batchv1.CronJobStatus{} }),
			PrepareUpdate:  registry.OnChange(func(c, old *batchv1.CronJob) { c.Status = old.Status }),
			Validate:       registry.Checks(func(e *check.Errors, c *batchv1.CronJob) { checkCronJob(e, c) }),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, c, _ *batchv1.CronJob) { checkCronJob(e, c) }),
			ValidateName:   apivalidation.NameIsDNSSubdomain,
			SpecChanged: registry.Differs(func(c, old *batchv1.CronJob) bool {
				return !equality.Semantic.DeepEqual(c.Spec, old.Spec)
			}),

			Warnings:                 warnings,
			ChangeWarnings:           changeWarnings,
			AllowUnconditionalUpdate: true,
		},
		Columns: columns,
		Subresources: map[string]registry.Subresource{
			"status": registry.StatusSubresource(func(c, body *batchv1.CronJob) { c.Status = body.Status }, nil),
		},
	}
}

func suspendColumn(doc string) registry.Column {
	c := registry.Text("Suspend", doc, func(c *batchv1.CronJob) string {
		if c.Spec.Suspend == nil {
			return "<unset>"
		}
		return strings.ToUpper(strconv.FormatBool(*c.Spec.Suspend)[:1]) + strconv.FormatBool(*c.Spec.Suspend)[1:]
	})
	c.Type = "boolean"
	return c
}

func defaultCronJob(c *batchv1.CronJob) {
	if c.Spec.ConcurrencyPolicy == "" {
		c.Spec.ConcurrencyPolicy = batchv1.AllowConcurrent
	}
	setIfNil(&c.Spec.Suspend, false)
	setIfNil(&c.Spec.SuccessfulJobsHistoryLimit, 3)
	setIfNil(&c.Spec.FailedJobsHistoryLimit, 1)
	// The template's own defaults are its jobs', made when they are; only its pods' are settled here.
	podspec.Default(&c.Spec.JobTemplate.Spec.Template.Spec)
}

// maxCronJobName leaves room in a job's name, 63 characters, for a dash and the ten digits of its time.
const maxCronJobName = 52

func checkCronJob(e *check.Errors, c *batchv1.CronJob) {
	if len(c.Name) > maxCronJobName {
		e.Invalid(field.NewPath("metadata", "name"), c.Name, fmt.Sprintf("must be no more than %d characters", maxCronJobName))
	}
	s := &c.Spec
	if s.Schedule == "" {
		e.Required(specPath.Child("schedule"), "")
	} else {
		checkSchedule(e, s, specPath.Child("schedule"))
	}
	if s.StartingDeadlineSeconds != nil {
		e.NonNegative(specPath.Child("startingDeadlineSeconds"), *s.StartingDeadlineSeconds)
	}
	if s.TimeZone != nil {
		checkTimeZone(e, *s.TimeZone, specPath.Child("timeZone"))
	}
	check.OneOf(e, specPath.Child("concurrencyPolicy"), s.ConcurrencyPolicy, batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent)
	template := specPath.Child("jobTemplate", "spec")
	checkJobSpec(e, &s.JobTemplate.Spec, template)
	if s.JobTemplate.Spec.Selector != nil {
		e.Invalid(template.Child("selector"), s.JobTemplate.Spec.Selector, "`selector` will be auto-generated")
	}
	if m := s.JobTemplate.Spec.ManualSelector; m != nil && *m {
		e.Add(field.NotSupported(template.Child("manualSelector"), m, []string{"nil", "false"}))
	}
	limit := func(name string, n *int32) {
		if n != nil {
			e.NonNegative(specPath.Child(name), int64(*n))
		}
	}
	limit("successfulJobsHistoryLimit", s.SuccessfulJobsHistoryLimit)
	limit("failedJobsHistoryLimit", s.FailedJobsHistoryLimit)
}

func checkSchedule(e *check.Errors, s *batchv1.CronJobSpec, at *field.Path) {
	if strings.Contains(s.Schedule, "TZ") {
		e.Invalid(at, s.Schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead")
		return
	}
	if err := parseSchedule(s.Schedule); err != nil {
		e.Invalid(at, s.Schedule, err.Error())
	}
}

func checkTimeZone(e *check.Errors, name string, at *field.Path) {
	switch {
	case name == "":
		e.Invalid(at, name, "timeZone must be nil or non-empty string")
	case strings.EqualFold(name, "Local"):
		e.Invalid(at, name, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones")
	default:
		if _, err := time.LoadLocation(name); err != nil {
			e.Invalid(at, name, err.Error())
		}
	}
}
