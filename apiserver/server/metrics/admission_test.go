package metrics_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/admission/hooks"
	"bareboat.dev/apiserver/admission/policies"
	"bareboat.dev/apiserver/server/metrics"
)

// What webhooks and policies do is counted as kube-apiserver counts it.
func TestAdmission(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := metrics.NewAdmission(reg)
	m.Asked(hooks.Asked{Name: "w", Kind: "validating", Operation: admission.Create, Code: 200, Took: time.Second})
	m.Asked(hooks.Asked{Name: "w", Kind: "validating", Operation: admission.Connect, Code: 403, Rejected: true})
	m.Asked(hooks.Asked{Name: "w", Kind: "admit", Operation: admission.Create, Code: 500, Rejected: true, Failed: true})
	m.Asked(hooks.Asked{Name: "w", Kind: "admit", Operation: admission.Create, Code: 500, Failed: true})
	m.Asked(hooks.Asked{Name: "w", Kind: "validating", Operation: admission.Update, Code: 1e6, Rejected: true})
	m.Checked(policies.Checked{Policy: "p", Binding: "b", Fault: "no_error"})
	m.Checked(policies.Checked{Policy: "p", Binding: "b", Fault: "compile_error", Broken: true, Actions: []admissionregistrationv1.ValidationAction{"Warn", "Audit"}})
	want := `
# HELP apiserver_admission_webhook_fail_open_count Failures of webhooks that were ignored.
# TYPE apiserver_admission_webhook_fail_open_count counter
apiserver_admission_webhook_fail_open_count{name="w",type="admit"} 1
# HELP apiserver_admission_webhook_rejection_count Writes that webhooks, or their failures, have refused.
# TYPE apiserver_admission_webhook_rejection_count counter
apiserver_admission_webhook_rejection_count{error_type="calling_webhook_error",name="w",operation="CREATE",rejection_code="500",type="admit"} 1
apiserver_admission_webhook_rejection_count{error_type="no_error",name="w",operation="CONNECT",rejection_code="403",type="validating"} 1
apiserver_admission_webhook_rejection_count{error_type="no_error",name="w",operation="UPDATE",rejection_code="600",type="validating"} 1
# HELP apiserver_validating_admission_policy_check_total Rules of policies that writes were held to, by what came of it.
# TYPE apiserver_validating_admission_policy_check_total counter
apiserver_validating_admission_policy_check_total{enforcement_action="allow",error_type="no_error",policy="p",policy_binding="b"} 1
apiserver_validating_admission_policy_check_total{enforcement_action="audit",error_type="compile_error",policy="p",policy_binding="b"} 1
apiserver_validating_admission_policy_check_total{enforcement_action="warn",error_type="compile_error",policy="p",policy_binding="b"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "apiserver_admission_webhook_fail_open_count", "apiserver_admission_webhook_rejection_count",
		"apiserver_validating_admission_policy_check_total"); err != nil {
		t.Error(err)
	}
}

// Names that administrators change again and again do not fill the server's memory.
func TestAdmissionIsBounded(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := metrics.NewAdmission(reg)
	for i := range 3000 {
		m.Asked(hooks.Asked{Name: fmt.Sprint("w", i), Kind: "admit", Operation: admission.Create, Code: 200})
	}
	if n, err := testutil.GatherAndCount(reg, "apiserver_admission_webhook_request_total"); err != nil || n > 1001 {
		t.Errorf("%d series, %v", n, err)
	}
}
