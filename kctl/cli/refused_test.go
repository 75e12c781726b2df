package cli

import (
	"strings"
	"sync/atomic"
	"testing"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// refusal is an answer that refuses an object for what is wrong with its fields.
func refusal(t *testing.T, warnings []string, fields ...string) error {
	t.Helper()
	s := metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonInvalid, Code: 422, Message: "as a whole", Details: &metav1.StatusDetails{Kind: "ConfigMap", Name: "b"}}
	for _, f := range fields {
		s.Details.Causes = append(s.Details.Causes, metav1.StatusCause{Type: metav1.CauseTypeFieldValueInvalid, Field: f, Message: "Invalid value"})
	}
	raw, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	beside, err := anypb.New(&apiv1.Warnings{Warnings: warnings})
	if err != nil {
		t.Fatal(err)
	}
	return status.FromProto(&spb.Status{Code: int32(codes.InvalidArgument), Message: s.Message, Details: []*anypb.Any{
		{TypeUrl: "type.googleapis.com/k8s.io.apimachinery.pkg.apis.meta.v1.Status", Value: raw}, beside,
	}}).Err()
}

// What is wrong with an object is told in kubectl's form, a line for each thing, and what the server warns of beside it, once.
func TestRefusedObjects(t *testing.T) {
	m := newModel(t)
	for _, tc := range []struct {
		fields []string
		want   string
	}{
		{[]string{"data"}, "Warning: mind\nThe ConfigMap \"b\" is invalid: data: Invalid value\n"},
		{[]string{"data", "metadata.name", "data"}, "Warning: mind\nThe ConfigMap \"b\" is invalid: \n* data: Invalid value\n* metadata.name: Invalid value\n"},
	} {
		m.server.Fail(func(string, *apiv1.ResourceRef) error { return refusal(t, []string{"mind", "mind"}, tc.fields...) })
		if _, errOut, code := m.run("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n", "create", "-f", "-"); code != 1 || errOut != tc.want {
			t.Errorf("exit code %d, %q, want %q", code, errOut, tc.want)
		}
	}
}

// A kind of which nobody may replace an object without saying which version of it is replaced in its newest.
func TestReplaceWithoutVersion(t *testing.T) {
	m := newModel(t)
	m.must("create", "configmap", "b")
	var asked atomic.Int32
	m.server.Fail(func(method string, _ *apiv1.ResourceRef) error {
		if strings.HasSuffix(method, "Update") && asked.Add(1) == 1 {
			return refusal(t, nil, "metadata.resourceVersion")
		}
		return nil
	})
	out, errOut, code := m.run("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndata: {k: v}\n", "replace", "-f", "-")
	if code != 0 || out != "configmap/b replaced\n" || asked.Load() != 2 {
		t.Errorf("exit code %d after %d tries: %q %q", code, asked.Load(), out, errOut)
	}
}

// A file's object is printed as it would be sent, from YAML as from JSON.
func TestCreateDryRunOfYAML(t *testing.T) {
	m := newModel(t)
	out, errOut, code := m.run("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n", "create", "-f", "-", "--dry-run=client", "-o", "jsonpath={.kind}/{.metadata.name}")
	if code != 0 || out != "ConfigMap/b" {
		t.Errorf("exit code %d: %q %q", code, out, errOut)
	}
}
