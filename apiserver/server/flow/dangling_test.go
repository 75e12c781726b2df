package flow

import (
	"strings"
	"testing"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
)

// A schema says whether its level exists, once, and since when: the time stays while the answer does.
func TestDangling(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	schema := &flowcontrolv1.FlowSchema{}
	schema.Spec.PriorityLevelConfiguration.Name = "gone"
	level := &flowcontrolv1.PriorityLevelConfiguration{}
	level.Name = "gone"
	next, changed := Dangling(schema, nil, start)
	if c := next.Status.Conditions[0]; !changed || c.Status != flowcontrolv1.ConditionTrue || c.Reason != "NotFound" || !strings.Contains(c.Message, `"gone"`) {
		t.Errorf("without its level: %+v", c)
	}
	if _, changed := Dangling(next, nil, start.Add(time.Hour)); changed {
		t.Error("it says so twice")
	}
	found, changed := Dangling(next, []*flowcontrolv1.PriorityLevelConfiguration{level}, start.Add(time.Hour))
	if c := found.Status.Conditions[0]; !changed || len(found.Status.Conditions) != 1 || c.Status != flowcontrolv1.ConditionFalse || c.Reason != "Found" || !c.LastTransitionTime.Time.Equal(start.Add(time.Hour)) {
		t.Errorf("with its level: %+v", c)
	}
	found.Spec.PriorityLevelConfiguration.Name, level.Name = "other", "other"
	if other, _ := Dangling(found, []*flowcontrolv1.PriorityLevelConfiguration{level}, start.Add(2*time.Hour)); !other.Status.Conditions[0].LastTransitionTime.Time.Equal(start.Add(time.Hour)) {
		t.Errorf("with another level: %+v", other.Status.Conditions[0])
	}
}
