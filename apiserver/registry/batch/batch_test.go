package batch_test

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"bareboat.dev/apiserver/registry/batch"
	"bareboat.dev/apiserver/registry/kindtest"
)

const job = `
apiVersion: batch/v1
kind: Job
metadata: {name: pi}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}
`

// Jobs that kube-apiserver accepts and refuses, and why.
func TestJobCreate(t *testing.T) {
	kindtest.Create(t, kindtest.Kind(t, batch.Resources(), "Job"), job, []kindtest.Case{
		{Name: "minimal"},
		{Name: "indexed", Edit: "spec: {completionMode: Indexed, completions: 3, backoffLimitPerIndex: 1, maxFailedIndexes: 2, successPolicy: {rules: [{succeededIndexes: '0,2', succeededCount: 1}]}}"},
		{Name: "no restart policy", Edit: "spec: {template: {spec: {restartPolicy: null}}}", Want: []string{
			`spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"`}},
		{Name: "negative", Edit: "spec: {parallelism: -1, completions: -1, backoffLimit: -1, activeDeadlineSeconds: -1, ttlSecondsAfterFinished: -1}", Want: []string{
			"spec.parallelism: Invalid value: -1: must be greater than or equal to 0", "spec.completions: Invalid value: -1: must be greater than or equal to 0",
			"spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0", "spec.activeDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0",
			"spec.ttlSecondsAfterFinished: Invalid value: -1: must be greater than or equal to 0"}},
		{Name: "selector of one's own", Edit: "spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}}}", Want: []string{
			"spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\",\"batch.kubernetes.io/controller-uid\":\"6ec9c0c6-8d36-4fcd-a03f-000000000001\"}}: `selector` not auto-generated"}},
		{Name: "manual selector", Edit: "spec: {manualSelector: true, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}}}"},
		{Name: "indexed without completions", Edit: "spec: {completionMode: Indexed, parallelism: 1}", Want: []string{
			"spec.completions: Required value: when completion mode is Indexed"}},
		{Name: "per index", Edit: "spec: {backoffLimitPerIndex: 1}", Want: []string{"spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"}},
		{Name: "failure policy", Edit: "spec: {podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {containerName: x, operator: In, values: [2, 1, 0]}}, {action: Panic}, {action: Ignore, onPodConditions: [{type: DisruptionTarget}]}]}}", Want: []string{
			`spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: "x": must be one of the container or initContainer names in the pod template`,
			"spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Invalid value: 0: must not be 0 for the In operator",
			"spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2,1,0]: must be ordered",
			`spec.podFailurePolicy.rules[1].action: Unsupported value: "Panic": supported values: "Count", "FailIndex", "FailJob", "Ignore"`,
			"spec.podFailurePolicy.rules[1]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required"}},
		{Name: "success policy", Edit: "spec: {completionMode: Indexed, completions: 3, successPolicy: {rules: [{}, {succeededIndexes: '2-1'}, {succeededCount: 9}]}}", Want: []string{
			"spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified",
			`spec.successPolicy.rules[1].succeededIndexes: Invalid value: "2-1": error parsing succeededIndexes: non-increasing order, previous: 2, current: 1`,
			"spec.successPolicy.rules[2].succeededCount: Invalid value: 9: must be less than or equal to 3 (the number of specified completions)"}},
	})
}

// What of a job may change.
func TestJobUpdate(t *testing.T) {
	r := kindtest.Kind(t, batch.Resources(), "Job")
	update := func(old, edit, status string) []string {
		was, errs := kindtest.New(t, r, kindtest.Edit(t, job, old))
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		if err := yaml.Unmarshal([]byte(status), &was.(*batchv1.Job).Status); err != nil {
			t.Fatal(err)
		}
		j := was.DeepCopyObject().(*batchv1.Job)
		switch edit {
		case "parallelism":
			j.Spec.Parallelism = new(int32(2))
		case "completions":
			j.Spec.Completions = new(int32(2))
		case "both":
			j.Spec.Completions, j.Spec.Parallelism = new(int32(2)), new(int32(2))
		case "node selector":
			j.Spec.Template.Spec.NodeSelector = map[string]string{"a": "b"}
		case "resources":
			j.Spec.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("2")}
		}
		return kindtest.Texts(kindtest.Change(r, j, was))
	}
	const (
		indexed   = "spec: {completionMode: Indexed, completions: 1, parallelism: 1}"
		suspended = "spec: {suspend: true}"
		started   = "startTime: 2026-01-01T00:00:00Z"
		seen      = started + "\nconditions: [{type: Suspended, status: 'True'}]"
	)
	for _, tc := range []struct {
		old, status, edit string
		errors            int
	}{
		{"", "", "parallelism", 0}, {"", "", "completions", 1}, {indexed, "", "both", 0}, {indexed, "", "completions", 1},
		{"", "", "node selector", 1}, {"", seen, "node selector", 1}, {suspended, "", "node selector", 0},
		{suspended, started, "node selector", 1}, {suspended, seen, "node selector", 0}, {suspended, seen + "\nactive: 1", "node selector", 1},
		{"", seen, "resources", 1}, {suspended, "", "resources", 0}, {suspended, seen, "resources", 0}, {suspended, seen + "\nactive: 1", "resources", 1},
	} {
		if got := update(tc.old, tc.edit, tc.status); len(got) != tc.errors {
			t.Errorf("%s of %q, %q: %q", tc.edit, tc.old, tc.status, got)
		}
	}
}

// A job generates the selector and labels that bind its pods to it, and is printed with its progress.
func TestJob(t *testing.T) {
	r := kindtest.Kind(t, batch.Resources(), "Job")
	obj, _ := kindtest.New(t, r, job)
	j := obj.(*batchv1.Job)
	l := j.Spec.Template.Labels
	if l["job-name"] != "pi" || l["batch.kubernetes.io/job-name"] != "pi" || l["controller-uid"] != string(j.UID) || len(j.Spec.Selector.MatchLabels) != 1 {
		t.Errorf("%v %v", l, j.Spec.Selector)
	}
	now := time.Unix(1000, 0)
	j.Status.StartTime = &metav1.Time{Time: now.Add(-time.Minute)}
	line := ""
	for _, c := range r.Columns[:4] {
		line += c.Cell(j, now) + " "
	}
	if line != "pi Running 0/1 60s " {
		t.Error(line)
	}
}

// Cron jobs that kube-apiserver accepts and refuses, and why.
func TestCronJob(t *testing.T) {
	kindtest.Create(t, kindtest.Kind(t, batch.Resources(), "CronJob"), `
apiVersion: batch/v1
kind: CronJob
metadata: {name: c}
spec:
  schedule: '*/5 0-3,7 1 jan-MAR mon'
  jobTemplate: {spec: {template: {spec: {restartPolicy: OnFailure, containers: [{name: c, image: i}]}}}}
`, []kindtest.Case{
		{Name: "minimal"},
		{Name: "descriptor", Edit: "spec: {schedule: '@daily', timeZone: Europe/Vienna}"},
		{Name: "no schedule", Edit: "spec: {schedule: ''}", Want: []string{"spec.schedule: Required value"}},
		{Name: "fields", Edit: "spec: {schedule: '* * *'}", Want: []string{`spec.schedule: Invalid value: "* * *": expected exactly 5 fields, found 3: [* * *]`}},
		{Name: "range", Edit: "spec: {schedule: '61 * * * *'}", Want: []string{`spec.schedule: Invalid value: "61 * * * *": end of range (61) above maximum (59): 61`}},
		{Name: "word", Edit: "spec: {schedule: 'x * * * *'}", Want: []string{`spec.schedule: Invalid value: "x * * * *": failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax`}},
		{Name: "step", Edit: "spec: {schedule: '*/0 * * * *'}", Want: []string{`spec.schedule: Invalid value: "*/0 * * * *": step of range should be a positive number: */0`}},
		{Name: "zone in schedule", Edit: "spec: {schedule: 'TZ=UTC 0 * * * *'}", Want: []string{
			`spec.schedule: Invalid value: "TZ=UTC 0 * * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead`}},
		{Name: "zone", Edit: "spec: {timeZone: Mars/Base}", Want: []string{`spec.timeZone: Invalid value: "Mars/Base": unknown time zone Mars/Base`}},
		{Name: "policy", Edit: "spec: {concurrencyPolicy: Maybe, successfulJobsHistoryLimit: -1}", Want: []string{
			`spec.concurrencyPolicy: Unsupported value: "Maybe": supported values: "Allow", "Forbid", "Replace"`,
			"spec.successfulJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0"}},
		{Name: "name", Edit: "metadata: {name: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}", Want: []string{
			`metadata.name: Invalid value: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": must be no more than 52 characters`}},
		{Name: "selector", Edit: "spec: {jobTemplate: {spec: {selector: {matchLabels: {a: b}}}}}", Want: []string{
			"spec.jobTemplate.spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: `selector` will be auto-generated"}},
	})
}
