package hooks

import (
	"context"
	"errors"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/admission"
)

// TestDenied shows what a user is told of a refusal, whatever the webhook says of it.
func TestDenied(t *testing.T) {
	const by = `admission webhook "w" denied the request`
	tests := map[string]struct {
		result  *metav1.Status
		code    int32
		message string
	}{
		"nothing":        {nil, 400, by + " without explanation"},
		"a message":      {&metav1.Status{Message: "no"}, 400, by + ": no"},
		"a reason":       {&metav1.Status{Reason: "Because"}, 400, by + ": Because"},
		"a code":         {&metav1.Status{Code: 403, Message: "no"}, 403, by + ": no"},
		"a wrong code":   {&metav1.Status{Code: 200, Status: metav1.StatusSuccess}, 400, by + " without explanation"},
		"a code, reason": {&metav1.Status{Code: 422, Reason: metav1.StatusReasonInvalid}, 422, by + ": Invalid"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var e *apierrors.StatusError
			if !errors.As(denied("w", tt.result), &e) || e.ErrStatus.Code != tt.code || e.ErrStatus.Message != tt.message || e.ErrStatus.Status != metav1.StatusFailure {
				t.Errorf("got %+v", e)
			}
		})
	}
}

// TestVerify shows which answers are none.
func TestVerify(t *testing.T) {
	patch, other := admissionv1.PatchTypeJSONPatch, admissionv1.PatchType("Other")
	tests := map[string]struct {
		version  string
		response *admissionv1.AdmissionResponse
		kind     string
		want     string
	}{
		"good":             {"v1", &admissionv1.AdmissionResponse{UID: "u", Allowed: true}, "AdmissionReview", ""},
		"good patch":       {"v1", &admissionv1.AdmissionResponse{UID: "u", Patch: []byte("[]"), PatchType: &patch}, "AdmissionReview", ""},
		"nothing":          {"v1", nil, "AdmissionReview", "webhook response was absent"},
		"another uid":      {"v1", &admissionv1.AdmissionResponse{UID: "x"}, "AdmissionReview", `expected response.uid="u", got "x"`},
		"another kind":     {"v1", &admissionv1.AdmissionResponse{UID: "u"}, "Pod", "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got admission.k8s.io/v1, Kind=Pod"},
		"no type":          {"v1", &admissionv1.AdmissionResponse{UID: "u", Patch: []byte("[]")}, "AdmissionReview", "webhook returned response.patch but not response.patchType"},
		"no patch":         {"v1", &admissionv1.AdmissionResponse{UID: "u", PatchType: &patch}, "AdmissionReview", "webhook returned response.patchType but not response.patch"},
		"another type":     {"v1", &admissionv1.AdmissionResponse{UID: "u", Patch: []byte("[]"), PatchType: &other}, "AdmissionReview", `webhook returned invalid response.patchType of "Other"`},
		"less is demanded": {"v1beta1", &admissionv1.AdmissionResponse{Patch: []byte("[]")}, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			asked := &admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: &admissionv1.AdmissionRequest{UID: "u"}}
			answer := &admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: tt.kind}, Response: tt.response}
			err := verify(asked, answer, tt.version)
			if (err == nil) != (tt.want == "") || err != nil && err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// TestFailed shows what a failure policy decides about, and what it does not.
func TestFailed(t *testing.T) {
	call := &callError{"w", errors.New("boom")}
	tests := map[string]struct {
		ignore bool
		err    error
		want   string
	}{
		"fail":             {false, call, `Internal error occurred: failed calling webhook "w": boom`},
		"ignore":           {true, call, ""},
		"dry run":          {true, dryRun("w"), `admission webhook "w" does not support dry run`},
		"the caller ended": {true, &callError{"w", context.Canceled}, "context canceled"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := &admission.Attributes{Request: admission.Request{Notes: &admission.Notes{}}}
			err := failed(&hook{name: "w", ignore: tt.ignore}, a, "validating", 3, tt.err)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if noted := a.Request.Notes.All()["failed-open.validating.webhook.admission.k8s.io/round_0_index_3"]; (noted == "w") != (tt.want == "") {
				t.Errorf("noted %q", noted)
			}
		})
	}
}
