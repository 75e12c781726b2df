package batch_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	"sigs.k8s.io/yaml"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/batch"
	"bareboat.dev/apiserver/registry/kindtest"
)

// Which statuses a job's controller may write after which, with the fields and words of Kubernetes.
func TestJobStatus(t *testing.T) {
	const (
		indexed  = "spec: {completionMode: Indexed, completions: 5, backoffLimitPerIndex: 1}"
		met      = "{type: SuccessCriteriaMet, status: 'True'}"
		complete = "{type: Complete, status: 'True'}"
		failing  = "{type: FailureTarget, status: 'True'}"
		failed   = "{type: Failed, status: 'True'}"
		times    = "startTime: 2026-01-01T00:00:00Z\ncompletionTime: 2026-01-01T00:01:00Z\n"
		done     = times + "conditions: [" + met + ", " + complete + "]"
	)
	r := kindtest.Kind(t, batch.Resources(), "Job")
	for name, c := range map[string]struct {
		job, old, status string
		want             []string
	}{
		"running":  {status: "active: 1\nready: 1\nstartTime: 2026-01-01T00:00:00Z"},
		"complete": {status: done},
		"failed":   {status: "startTime: 2026-01-01T00:00:00Z\nconditions: [" + failing + ", " + failed + "]"},
		"complete without its criteria": {status: times + "conditions: [" + complete + "]", want: []string{
			"status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition"}},
		"failed without its target": {status: "startTime: 2026-01-01T00:00:00Z\nconditions: [" + failed + "]", want: []string{
			"status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition"}},
		"complete without times": {status: "conditions: [" + met + ", " + complete + "]", want: []string{
			"status.completionTime: Required value: completionTime is required for Complete jobs",
			"status.startTime: Required value: startTime is required for finished job"}},
		"complete with pods": {status: done + "\nactive: 1\nterminating: 1\nuncountedTerminatedPods: {failed: [a]}", want: []string{
			"status.active: Invalid value: 1: active>0 is invalid for finished job",
			`status.uncountedTerminatedPods: Invalid value: {"failed":["a"]}: must be empty for finished job`,
			"status.terminating: Invalid value: 1: terminating>0 is invalid for finished job"}},
		"taken back": {old: done, status: times, want: []string{
			"status.completionTime: Invalid value: \"2026-01-01T00:01:00Z\": cannot set completionTime when there is no Complete=True condition",
			"status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
			"status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition"}},
		"counts fall": {old: "failed: 2\nsucceeded: 2", status: "failed: 1\nsucceeded: 1", want: []string{
			"status.failed: Invalid value: 1: cannot decrease the failed counter",
			"status.succeeded: Invalid value: 1: cannot decrease the succeeded counter"}},
		"pods listed twice": {status: "uncountedTerminatedPods: {succeeded: [a, ''], failed: [a]}", want: []string{
			`status.uncountedTerminatedPods.succeeded[1]: Invalid value: "": must not be empty`,
			`status.uncountedTerminatedPods.failed[0]: Duplicate value: "a"`}},
		"indexes of a job without": {status: "completedIndexes: '0'\nfailedIndexes: ''", want: []string{
			`status.completedIndexes: Invalid value: "0": cannot set non-empty completedIndexes when non-indexed completion mode`,
			`status.failedIndexes: Invalid value: "": cannot set non-null failedIndexes when backoffLimitPerIndex is null`}},
		"indexes": {job: indexed, status: "completedIndexes: 0,2-3\nfailedIndexes: '1'"},
		"indexes overlap": {job: indexed, status: "completedIndexes: 0-3\nfailedIndexes: '2'", want: []string{
			`status.failedIndexes: Invalid value: "2": failedIndexes and completedIndexes overlap at index: 2`}},
		"indexes unreadable": {job: indexed, status: "completedIndexes: 0-9\nfailedIndexes: 1-2-3", want: []string{
			`status.completedIndexes: Invalid value: "0-9": error parsing completedIndexes: too large index: "9"`,
			`status.failedIndexes: Invalid value: "1-2-3": error parsing failedIndexes: the fragment "1-2-3" violates the requirement that an index interval can have at most two parts separated by '-'`}},
		"start moves": {old: "startTime: 2026-01-01T00:00:00Z", status: "startTime: 2026-01-02T00:00:00Z", want: []string{
			`status.startTime: Invalid value: "2026-01-02T00:00:00Z": field is immutable for unsuspended job once set`}},
		"start moves on resumption": {
			old:    "startTime: 2026-01-01T00:00:00Z\nconditions: [{type: Suspended, status: 'True'}]",
			status: "startTime: 2026-01-02T00:00:00Z\nconditions: [{type: Suspended, status: 'False'}]"},
		"wrong already": {old: "completedIndexes: x", status: "completedIndexes: x\nactive: 1"},
	} {
		t.Run(name, func(t *testing.T) {
			obj, errs := kindtest.New(t, r, kindtest.Edit(t, job, c.job))
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			old := obj.(*batchv1.Job)
			if err := yaml.Unmarshal([]byte(c.old), &old.Status); err != nil {
				t.Fatal(err)
			}
			body := old.DeepCopy()
			body.Status = batchv1.JobStatus{}
			if err := yaml.Unmarshal([]byte(c.status), &body.Status); err != nil {
				t.Fatal(err)
			}
			changed, err := r.Subresources["status"].Apply(registry.Object(old), body, time.Unix(1000, 0))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, err := range r.Subresources["status"].Validate(changed, old) {
				got = append(got, err.Error())
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("unexpected errors (-want +got):\n%s", d)
			}
		})
	}
}
