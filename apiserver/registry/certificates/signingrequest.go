package certificates

import (
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

type request = *certificatesv1.CertificateSigningRequest

func signingRequests() *registry.Resource {
	return &registry.Resource{
		Kind:   certificatesv1.SchemeGroupVersion.WithKind("CertificateSigningRequest"),
		Plural: "certificatesigningrequests", Singular: "certificatesigningrequest", ShortNames: []string{"csr"},
		KeyPrefix: "/registry/certificatesigningrequests/",
		New:       func() registry.Object { return &certificatesv1.CertificateSigningRequest{} },
		NewList:   func() runtime.Object { return &certificatesv1.CertificateSigningRequestList{} },
		Strategy: registry.Strategy{
			PrepareCreate: registry.On(func(r request) { r.Status = certificatesv1.CertificateSigningRequestStatus{} }),
			// Who asks is who is asking.
			SetCreator: func(obj registry.Object, by registry.Creator) {
				s := &obj.(request).Spec
				s.Username, s.UID, s.Groups, s.Extra = by.Name, by.UID, by.Groups, nil
				for key, values := range by.Extra {
					if s.Extra == nil {
						s.Extra = map[string]certificatesv1.ExtraValue{}
					}
					s.Extra[key] = values
				}
			},
			PrepareUpdate:  registry.OnChange(func(r, old request) { r.Spec, r.Status = old.Spec, old.Status }),
			Validate:       registry.Checks(func(e *check.Errors, r request) { checkRequest(e, r, nil) }),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, r, old request) { checkRequestUpdate(e, r, old, rights{}) }),
			ValidateName:   func(name string, prefix bool) []string { return path.ValidatePathSegmentName(name, prefix) },

			AllowUnconditionalUpdate: true,
		},
		Fields: map[string]func(registry.Object) string{
			"spec.signerName": registry.Field(func(r request) string { return r.Spec.SignerName }),
		},
		Columns: requestColumns(),
		Subresources: map[string]registry.Subresource{
			"status": requestPart(rights{certificate: true}, func(status, old *certificatesv1.CertificateSigningRequestStatus) {
				keepConditions(status, old, certificatesv1.CertificateApproved)
				keepConditions(status, old, certificatesv1.CertificateDenied)
			}),
			"approval": requestPart(rights{approval: true}, func(status, old *certificatesv1.CertificateSigningRequestStatus) {
				status.Certificate = old.Certificate
			}),
		},
	}
}

// requestPart is a subresource through which a part of the status is written; keep puts the rest back.
func requestPart(may rights, keep func(status, old *certificatesv1.CertificateSigningRequestStatus)) registry.Subresource {
	sub := registry.StatusSubresource(func(r, body request) { r.Status = body.Status }, func(e *check.Errors, r, old request) {
		checkRequestUpdate(e, r, old, may)
	})
	take := sub.Apply
	sub.Apply = func(old registry.Object, body runtime.Object, now time.Time) (registry.Object, error) {
		obj, err := take(old, body, now)
		if err != nil {
			return nil, err
		}
		was, is := &old.(request).Status, &obj.(request).Status
		keep(is, was)
		stampConditions(is, was, metav1.NewTime(now.Truncate(time.Second)))
		return obj, nil
	}
	return sub
}

// keepConditions replaces as many conditions of a type as old has by old's, so that a writer who does not know of them does not
// change them; added and removed ones are refused later.
func keepConditions(status, old *certificatesv1.CertificateSigningRequestStatus, t certificatesv1.RequestConditionType) {
	before := conditionsOf(old, t)
	for i := range status.Conditions {
		if status.Conditions[i].Type == t && len(before) > 0 {
			status.Conditions[i], before = before[0], before[1:]
		}
	}
}

// stampConditions gives new and changed conditions their times.
func stampConditions(status, old *certificatesv1.CertificateSigningRequestStatus, now metav1.Time) {
	for i := range status.Conditions {
		c := &status.Conditions[i]
		if c.LastUpdateTime.IsZero() {
			c.LastUpdateTime = now
		}
		if !c.LastTransitionTime.IsZero() {
			continue
		}
		c.LastTransitionTime = now
		for _, was := range old.Conditions {
			if was.Type == c.Type && was.Status == c.Status && !was.LastTransitionTime.IsZero() {
				c.LastTransitionTime = was.LastTransitionTime
				break
			}
		}
	}
}

func conditionsOf(s *certificatesv1.CertificateSigningRequestStatus, t certificatesv1.RequestConditionType) []certificatesv1.CertificateSigningRequestCondition {
	var out []certificatesv1.CertificateSigningRequestCondition
	for _, c := range s.Conditions {
		if c.Type == t {
			out = append(out, c)
		}
	}
	return out
}

func requestColumns() []registry.Column {
	// The descriptions are those of the version that Kubernetes prints, v1beta1.
	spec := certificatesv1beta1.CertificateSigningRequestSpec{}.SwaggerDoc()
	return []registry.Column{
		registry.NameColumn(),
		registry.AgeColumn(),
		registry.Text("SignerName", spec["signerName"], func(r request) string { return registry.OrNone(r.Spec.SignerName) }),
		registry.Text("Requestor", spec["request"], func(r request) string { return r.Spec.Username }),
		registry.Text("RequestedDuration", spec["expirationSeconds"], func(r request) string {
			if r.Spec.ExpirationSeconds == nil {
				return "<none>"
			}
			return duration.HumanDuration(time.Duration(*r.Spec.ExpirationSeconds) * time.Second)
		}),
		registry.Text("Condition", certificatesv1beta1.CertificateSigningRequestStatus{}.SwaggerDoc()["conditions"], func(r request) string {
			has := func(t certificatesv1.RequestConditionType) bool { return len(conditionsOf(&r.Status, t)) > 0 }
			words := []string{"Pending"}
			switch {
			case has(certificatesv1.CertificateDenied):
				words[0] = "Denied"
			case has(certificatesv1.CertificateApproved):
				words[0] = "Approved"
			}
			if has(certificatesv1.CertificateFailed) {
				words = append(words, "Failed")
			}
			if len(r.Status.Certificate) > 0 {
				words = append(words, "Issued")
			}
			return strings.Join(words, ",")
		}),
	}
}
