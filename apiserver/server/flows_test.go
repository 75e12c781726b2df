package server_test

import (
	"encoding/json"
	"testing"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
)

// Every FlowSchema says whether its priority level exists, and says otherwise once that changes.
func TestDanglingSchemas(t *testing.T) {
	h := start(t, engines()["memory"](t))
	u := h.admin()
	dangling := func(name string) flowcontrolv1.ConditionStatus {
		_, _, body := u.rest(t, "GET", "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/"+name, "", "")
		var s flowcontrolv1.FlowSchema
		check(t, json.Unmarshal(body, &s))
		for _, c := range s.Status.Conditions {
			if c.Type == flowcontrolv1.FlowSchemaConditionDangling {
				return c.Status
			}
		}
		return ""
	}
	becomes := func(name string, want flowcontrolv1.ConditionStatus) {
		t.Helper()
		eventually(t, "Dangling="+string(want)+" of "+name, func() bool { return dangling(name) == want })
	}
	becomes("exempt", flowcontrolv1.ConditionFalse)
	code, _, body := u.rest(t, "POST", "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas", "application/json", `{"apiVersion":"flowcontrol.apiserver.k8s.io/v1","kind":"FlowSchema",
		"metadata":{"name":"mine"},"spec":{"priorityLevelConfiguration":{"name":"mine"},"matchingPrecedence":100}}`)
	if code != 201 {
		t.Fatalf("%d %s", code, body)
	}
	becomes("mine", flowcontrolv1.ConditionTrue)
	code, _, body = u.rest(t, "POST", "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations", "application/json", `{"apiVersion":"flowcontrol.apiserver.k8s.io/v1","kind":"PriorityLevelConfiguration",
		"metadata":{"name":"mine"},"spec":{"type":"Limited","limited":{"nominalConcurrencyShares":5,"limitResponse":{"type":"Reject"}}}}`)
	if code != 201 {
		t.Fatalf("%d %s", code, body)
	}
	becomes("mine", flowcontrolv1.ConditionFalse)
}
