package apiregistration

import (
	"testing"

	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"bareboat.dev/apiserver/registry/kindtest"
)

const metrics = `
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.metrics.k8s.io}
spec:
  group: metrics.k8s.io
  version: v1beta1
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {namespace: kube-system, name: metrics-server}
`

// APIServices are accepted and rejected as by Kubernetes, with its words.
func TestAPIService(t *testing.T) {
	r := kindtest.Kind(t, Resources(), "APIService")
	kindtest.Create(t, r, metrics, []kindtest.Case{
		{Name: "as metrics-server has it"},
		{Name: "local", Edit: "spec: {service: null, insecureSkipTLSVerify: null}"},
		{Name: "another name", Edit: "metadata: {name: v1.metrics.k8s.io}", Want: []string{
			`metadata.name: Invalid value: "v1.metrics.k8s.io": must be ` + "`spec.version+\".\"+spec.group`" + `: "v1beta1.metrics.k8s.io"`}},
		{Name: "priorities", Edit: "spec: {groupPriorityMinimum: 20001, versionPriority: 0}", Want: []string{
			"spec.groupPriorityMinimum: Invalid value: 20001: must be positive and less than 20000",
			"spec.versionPriority: Invalid value: 0: must be positive and less than 1000"}},
		{Name: "authority and none", Edit: "spec: {caBundle: QUJD}", Want: []string{
			"spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present"}},
		{Name: "no service's name", Edit: "spec: {service: {name: ''}}", Want: []string{"spec.service.name: Required value"}},
		{Name: "a port that is none", Edit: "spec: {service: {port: 70000}}", Want: []string{
			"spec.service.port: Invalid value: 70000: must be between 1 and 65535, inclusive"}},
		{Name: "local with an authority", Edit: "spec: {service: null, insecureSkipTLSVerify: null, caBundle: QUJD}", Want: []string{
			`spec.caBundle: Invalid value: "3 bytes": local APIServices may not have a caBundle`}},
	})
	obj, errs := kindtest.New(t, r, kindtest.Edit(t, metrics, ""))
	if len(errs) > 0 || *obj.(*apiregistrationv1.APIService).Spec.Service.Port != 443 {
		t.Errorf("default port: %v %v", obj, errs)
	}
}
