package server_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

const rbacGroup = "rbac.authorization.k8s.io"

func (u *user) createRBAC(t testing.TB, resource, namespace, body string) error {
	t.Helper()
	_, err := u.Create(t.Context(), &apiv1.CreateRequest{
		Ref:    &apiv1.ResourceRef{Group: rbacGroup, Version: "v1", Resource: resource, Namespace: namespace},
		Object: asJSON(t, "application/json", body),
	})
	return err
}

// eventually waits for something that follows a write through a watch.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

// Stored roles and bindings grant and, once deleted, grant no more; default roles are stored; nobody grants what he lacks.
func TestStoredRBAC(t *testing.T) {
	h := start(t, engines()["memory"](t))
	admin, dev := h.admin(), h.as("dev")
	_, err := admin.Get(t.Context(), &apiv1.GetRequest{Ref: ref(rbacGroup, "clusterroles", "", "edit")})
	check(t, err)
	read := func() codes.Code {
		_, err := dev.Get(t.Context(), &apiv1.GetRequest{Ref: ref("", "configmaps", "default", "x")})
		return status.Code(err)
	}
	if c := read(); c != codes.PermissionDenied {
		t.Fatalf("before: %v", c)
	}
	check(t, admin.createRBAC(t, "rolebindings", "default", `{"metadata":{"name":"dev"},"subjects":[{"kind":"User","name":"dev","apiGroup":"rbac.authorization.k8s.io"}],"roleRef":{"kind":"ClusterRole","name":"admin","apiGroup":"rbac.authorization.k8s.io"}}`))
	eventually(t, "the binding", func() bool { return read() == codes.NotFound })
	if err := dev.createRBAC(t, "roles", "default", `{"metadata":{"name":"pods"},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]}`); err != nil {
		t.Errorf("granting what one has: %v", err)
	}
	err = dev.createRBAC(t, "roles", "default", `{"metadata":{"name":"nodes"},"rules":[{"apiGroups":[""],"resources":["nodes"],"verbs":["get"]}]}`)
	if s := apiStatus(t, err); status.Code(err) != codes.PermissionDenied ||
		!strings.Contains(s.Message, `user "dev" (groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently held:`) ||
		!strings.Contains(s.Message, `{APIGroups:[""], Resources:["nodes"], Verbs:["get"]}`) {
		t.Errorf("granting what one lacks: %v", err)
	}
	err = dev.createRBAC(t, "rolebindings", "default", `{"metadata":{"name":"up"},"subjects":[{"kind":"User","name":"dev","apiGroup":"rbac.authorization.k8s.io"}],"roleRef":{"kind":"ClusterRole","name":"cluster-admin","apiGroup":"rbac.authorization.k8s.io"}}`)
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("binding what one lacks: %v", err)
	}
	// A ClusterRole that is labelled to be part of another joins it.
	check(t, admin.createRBAC(t, "clusterroles", "", `{"metadata":{"name":"more","labels":{"rbac.authorization.k8s.io/aggregate-to-admin":"true"}},"rules":[{"apiGroups":["coordination.k8s.io"],"resources":["leases/x"],"verbs":["get"]},{"apiGroups":["discovery.k8s.io"],"resources":["endpointslices"],"verbs":["delete"]}]}`))
	eventually(t, "the aggregated rule", func() bool {
		_, err := dev.Delete(t.Context(), &apiv1.DeleteRequest{Ref: ref("discovery.k8s.io", "endpointslices", "default", "none")})
		return status.Code(err) == codes.NotFound
	})
	_, err = admin.Delete(t.Context(), &apiv1.DeleteRequest{Ref: ref(rbacGroup, "rolebindings", "default", "dev")})
	check(t, err)
	eventually(t, "the binding's end", func() bool { return read() == codes.PermissionDenied })
}

// Nobody binds a role that does not exist, which may come to have any rule, but who may bind it; and a change that only helps the garbage
// collector needs no right to what the object grants.
func TestBindingLaterRoles(t *testing.T) {
	h := start(t, engines()["memory"](t))
	admin, dev := h.admin(), h.as("dev")
	binding := func(name, kind, role string) string {
		to := "dev"
		if role == "cluster-admin" {
			to = "somebody else"
		}
		return `{"metadata":{"name":"` + name + `","finalizers":["example.com/wait"]},"subjects":[{"kind":"User","name":"` + to + `","apiGroup":"rbac.authorization.k8s.io"}],"roleRef":{"kind":"` + kind + `","name":"` + role + `","apiGroup":"rbac.authorization.k8s.io"}}`
	}
	check(t, admin.createRBAC(t, "rolebindings", "default", binding("dev", "ClusterRole", "admin")))
	eventually(t, "the binding", func() bool {
		_, err := dev.Get(t.Context(), &apiv1.GetRequest{Ref: ref(rbacGroup, "rolebindings", "default", "dev")})
		return err == nil
	})
	for _, kind := range []string{"ClusterRole", "Role"} {
		if err := dev.createRBAC(t, "rolebindings", "default", binding("later", kind, "later")); status.Code(err) != codes.NotFound {
			t.Errorf("binding a %s that does not exist: %v", kind, err)
		}
	}
	// These are bindings of what dev may not grant.
	check(t, admin.createRBAC(t, "rolebindings", "default", binding("mighty", "ClusterRole", "cluster-admin")))
	patch := func(name, text string) error {
		_, err := dev.Patch(t.Context(), &apiv1.PatchRequest{Ref: ref(rbacGroup, "rolebindings", "default", name), Type: apiv1.PatchRequest_TYPE_MERGE, Patch: []byte(text)})
		return err
	}
	if err := patch("mighty", `{"metadata":{"finalizers":null}}`); err != nil {
		t.Errorf("letting a binding go: %v", err)
	}
	check(t, admin.createRBAC(t, "rolebindings", "default", binding("still", "ClusterRole", "cluster-admin")))
	if err := patch("still", `{"metadata":{"labels":{"a":"b"}}}`); status.Code(err) != codes.PermissionDenied {
		t.Errorf("changing a binding of what one lacks: %v", err)
	}
	check(t, admin.createRBAC(t, "roles", "default", `{"metadata":{"name":"binder"},"rules":[{"apiGroups":["rbac.authorization.k8s.io"],"resources":["clusterroles"],"verbs":["bind"]}]}`))
	check(t, admin.createRBAC(t, "rolebindings", "default", binding("binder", "Role", "binder")))
	eventually(t, "binding what one may bind", func() bool {
		return dev.createRBAC(t, "rolebindings", "default", binding("later", "ClusterRole", "later")) == nil
	})
}

// Shows that whoever may write ClusterRoles cannot have one of his own gather the rules of others, nor change what one that gathers
// has, and that its labels are still his to choose.
func TestAggregationIsNoEscalation(t *testing.T) {
	h := start(t, engines()["memory"](t))
	admin, ops := h.admin(), h.as("ops")
	const rules = `"rules":[{"apiGroups":["rbac.authorization.k8s.io"],"resources":["clusterroles"],"verbs":["get","create","update"]}]`
	check(t, admin.createRBAC(t, "clusterroles", "", `{"metadata":{"name":"role-writer"},`+rules+`}`))
	check(t, admin.createRBAC(t, "clusterrolebindings", "", `{"metadata":{"name":"ops"},"subjects":[{"kind":"User","name":"ops","apiGroup":"rbac.authorization.k8s.io"}],"roleRef":{"kind":"ClusterRole","name":"role-writer","apiGroup":"rbac.authorization.k8s.io"}}`))
	eventually(t, "the binding", func() bool {
		_, err := ops.Get(t.Context(), &apiv1.GetRequest{Ref: ref(rbacGroup, "clusterroles", "", "role-writer")})
		return err == nil
	})
	update := func(name, body string) error {
		_, err := ops.Update(t.Context(), &apiv1.UpdateRequest{Ref: ref(rbacGroup, "clusterroles", "", name), Object: asJSON(t, "application/json", body)})
		return err
	}
	const gather = `"aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{"kubernetes.io/bootstrapping":"rbac-defaults"}}]}`
	if err := update("role-writer", `{"metadata":{"name":"role-writer"},`+gather+`,`+rules+`}`); status.Code(err) != codes.PermissionDenied {
		t.Errorf("gathering by update: %v", err)
	}
	if err := ops.createRBAC(t, "clusterroles", "", `{"metadata":{"name":"mine"},`+gather+`}`); status.Code(err) != codes.PermissionDenied {
		t.Errorf("gathering by creation: %v", err)
	}
	if err := update("view", `{"metadata":{"name":"view"},`+rules+`}`); status.Code(err) != codes.PermissionDenied {
		t.Errorf("changing one that gathers: %v", err)
	}
	if err := update("role-writer", `{"metadata":{"name":"role-writer","labels":{"team":"ops"}},`+rules+`}`); err != nil {
		t.Errorf("changing what grants no more: %v", err)
	}
	check(t, admin.createRBAC(t, "clusterroles", "", `{"metadata":{"name":"gathers"},`+gather+`}`))
}
