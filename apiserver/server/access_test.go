package server_test

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	rpc "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/server"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// Anonymous callers reach health and version and nothing else, through either door; the refusals read as Kubernetes'.
func TestAnonymous(t *testing.T) {
	h := start(t, engines()["memory"](t))
	u := h.as("")
	_, err := healthpb.NewHealthClient(u.conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	check(t, err)
	_, err = apiv1.NewDiscoveryServiceClient(u.conn).GetVersion(t.Context(), &apiv1.GetVersionRequest{})
	check(t, err)
	_, err = apiv1.NewDiscoveryServiceClient(u.conn).ListResources(t.Context(), &apiv1.ListResourcesRequest{})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("discovery: %v", err)
	}
	stream, err := reflectionpb.NewServerReflectionClient(u.conn).ServerReflectionInfo(t.Context())
	check(t, err)
	if _, err := stream.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("reflection: %v", err)
	}
	_, err = u.Get(t.Context(), &apiv1.GetRequest{Ref: ref("", "pods", "y", "p")})
	const want = `pods "p" is forbidden: User "system:anonymous" cannot get resource "pods" in API group "" in the namespace "y"`
	if s := apiStatus(t, err); s.Message != want || s.Reason != metav1.StatusReasonForbidden {
		t.Errorf("gRPC: %v", err)
	}
	code, _, body := u.rest(t, http.MethodGet, "/api/v1/namespaces/y/pods/p", "", "")
	if code != http.StatusForbidden || !strings.Contains(string(body), strings.ReplaceAll(want, `"`, `\"`)) {
		t.Errorf("REST: %d %s", code, body)
	}
	if code, _, _ := u.rest(t, http.MethodGet, "/version", "", ""); code != http.StatusOK {
		t.Errorf("version: %d", code)
	}
}

// A ServiceAccount's token, asked for with TokenRequest, authenticates through both doors until its account is gone.
func TestServiceAccountToken(t *testing.T) {
	h := start(t, engines()["memory"](t))
	admin := h.admin()
	h.defaultAccount(admin)
	r := ref("", "serviceaccounts", "default", "default")
	r.Subresource = "token"
	resp, err := admin.Create(t.Context(), &apiv1.CreateRequest{Ref: r, Object: asJSON(t, "application/json", `{"spec":{"expirationSeconds":600}}`)})
	check(t, err)
	var token authenticationv1.TokenRequest
	check(t, token.Unmarshal(resp.GetObject().GetValue()))
	if token.Status.Token == "" || token.Spec.Audiences[0] != "https://issuer" {
		t.Fatalf("token request %+v", token)
	}
	bot := h.as("")
	read := func() error {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token.Status.Token)
		_, err := bot.Get(ctx, &apiv1.GetRequest{Ref: ref("", "pods", "default", "p")})
		return err
	}
	if s := apiStatus(t, read()); !strings.Contains(s.Message, `User "system:serviceaccount:default:default" cannot get`) {
		t.Errorf("with the token: %+v", s)
	}
	_, err = admin.Delete(t.Context(), &apiv1.DeleteRequest{Ref: ref("", "serviceaccounts", "default", "default")})
	check(t, err)
	eventually(t, "the end of the account's token", func() bool { return status.Code(read()) == codes.Unauthenticated })
	if s := apiStatus(t, read()); s.Message != "Unauthorized" {
		t.Errorf("with the token of an account that is gone: %+v", s)
	}
}

// A node sees and writes what is its own: the list of its pods, its pods' secrets, its status; nothing of another node.
func TestNodeIdentity(t *testing.T) {
	h := start(t, engines()["memory"](t))
	admin := h.admin()
	h.defaultAccount(admin)
	p := pod("p")
	p.Spec.NodeName = "n1"
	p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "mine"}}}}
	_, err := admin.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "pods", "default", ""), Object: asProto(t, podURL, p)})
	check(t, err)
	for _, name := range []string{"mine", "other"} {
		_, err := admin.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "secrets", "default", ""), Object: asJSON(t, "application/json", `{"metadata":{"name":"`+name+`"}}`)})
		check(t, err)
	}
	n1, n2 := h.as("system:node:n1", authn.Nodes), h.as("system:node:n2", authn.Nodes)
	get := func(u *user, resource, name string) codes.Code {
		_, err := u.Get(t.Context(), &apiv1.GetRequest{Ref: ref("", resource, "default", name)})
		return status.Code(err)
	}
	createNode := func(u *user, name, labels string) codes.Code {
		_, err := u.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "nodes", "", ""), Object: asJSON(t, "application/json", `{"metadata":{"name":"`+name+`","labels":{`+labels+`}}}`)})
		return status.Code(err)
	}
	for what, c := range map[string]struct{ got, want codes.Code }{
		"own pod's secret":      {get(n1, "secrets", "mine"), codes.OK},
		"other secret":          {get(n1, "secrets", "other"), codes.PermissionDenied},
		"own pod":               {get(n1, "pods", "p"), codes.OK},
		"another node's pod":    {get(n2, "pods", "p"), codes.PermissionDenied},
		"another node's secret": {get(n2, "secrets", "mine"), codes.PermissionDenied},
		"own node":              {createNode(n1, "n1", `"kubernetes.io/hostname":"n1"`), codes.OK},
		"another node":          {createNode(n2, "n3", ""), codes.PermissionDenied},
		"restricted label":      {createNode(n2, "n2", `"node-restriction.kubernetes.io/x":"y"`), codes.PermissionDenied},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", what, c.got, c.want)
		}
	}
	list := func(u *user, selector string) codes.Code {
		stream, err := u.List(t.Context(), &apiv1.ListRequest{Ref: ref("", "pods", "", ""), FieldSelector: selector})
		check(t, err)
		_, err = stream.Recv()
		return status.Code(err)
	}
	if c := list(n1, "spec.nodeName=n1"); c != codes.OK {
		t.Errorf("own pods: %v", c)
	}
	if c := list(n1, ""); c != codes.PermissionDenied {
		t.Errorf("all pods: %v", c)
	}
}

// A flood is refused with RESOURCE_EXHAUSTED and when to come back.
func TestTooManyRequests(t *testing.T) {
	h := start(t, engines()["memory"](t), func(c *server.Config) { c.Limits.Reads = 1 })
	u := h.as("system:kube-controller-manager")
	// One list holds the only place while its client does not read: the answer is larger than HTTP/2's windows.
	for _, name := range []string{"a", "b", "c", "d"} {
		h.admin().create(t, configMap(name, "k", strings.Repeat("x", 900_000)))
	}
	held, err := h.as("system:kube-controller-manager").List(t.Context(), &apiv1.ListRequest{Ref: ref("", "configmaps", "default", "")})
	check(t, err)
	_, err = held.Header() // the first message has been sent
	check(t, err)
	again, err := u.List(t.Context(), &apiv1.ListRequest{Ref: ref("", "configmaps", "default", "")})
	check(t, err)
	_, err = again.Recv()
	if s := apiStatus(t, err); status.Code(err) != codes.ResourceExhausted || s.Details.RetryAfterSeconds != 1 {
		t.Errorf("second read: %v", err)
	}
}

// Reviews tell what somebody may do, who one is, and whose a token is, and store nothing.
func TestReviews(t *testing.T) {
	h := start(t, engines()["memory"](t))
	admin := h.admin()
	ask := func(u *user, resource, group, body string) string {
		t.Helper()
		code, _, b := u.rest(t, http.MethodPost, "/apis/"+group+"/v1/"+resource, jsonType, body)
		if code != http.StatusCreated {
			t.Fatalf("%s: %d %s", resource, code, b)
		}
		return string(b)
	}
	const authorization, authentication = "authorization.k8s.io", "authentication.k8s.io"
	for body, want := range map[string]string{
		`{"spec":{"user":"system:kube-scheduler","resourceAttributes":{"verb":"create","resource":"pods","subresource":"binding","namespace":"a"}}}`: `"allowed":true`,
		`{"spec":{"user":"system:kube-scheduler","resourceAttributes":{"verb":"get","resource":"secrets","namespace":"a"}}}`:                         `"allowed":false`,
		`{"spec":{"user":"x","groups":["system:authenticated"],"nonResourceAttributes":{"verb":"get","path":"/apis"}}}`:                              `"allowed":true`,
	} {
		if got := ask(admin, "subjectaccessreviews", authorization, body); !strings.Contains(got, want) {
			t.Errorf("%s: %s", body, got)
		}
	}
	dev := h.as("dev", "builders")
	if got := ask(dev, "selfsubjectaccessreviews", authorization, `{"spec":{"resourceAttributes":{"verb":"get","resource":"pods"}}}`); !strings.Contains(got, `"allowed":false`) {
		t.Errorf("self access: %s", got)
	}
	if got := ask(dev, "selfsubjectreviews", authentication, `{}`); !strings.Contains(got, `"username":"dev","groups":["builders","system:authenticated"]`) {
		t.Errorf("self: %s", got)
	}
	if got := ask(dev, "selfsubjectrulesreviews", authorization, `{"spec":{"namespace":"default"}}`); !strings.Contains(got, `"selfsubjectaccessreviews"`) {
		t.Errorf("self rules: %s", got)
	}
	if got := ask(admin, "tokenreviews", authentication, `{"spec":{"token":"nonsense"}}`); !strings.Contains(got, `"error":"[invalid bearer token]"`) {
		t.Errorf("token: %s", got)
	}
}

// Who may impersonate acts as somebody else through either door, with that one's rights; who may not is refused.
func TestImpersonation(t *testing.T) {
	h := start(t, engines()["memory"](t))
	try := func(u *user) error {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "impersonate-user", "jane", "impersonate-group", "devs")
		_, err := u.Get(ctx, &apiv1.GetRequest{Ref: ref("", "pods", "default", "p")})
		return err
	}
	if s := apiStatus(t, try(h.admin())); !strings.Contains(s.Message, `User "jane" cannot get resource "pods"`) {
		t.Errorf("as jane: %s", s.Message)
	}
	const refused = `users "jane" is forbidden: User "dev" cannot impersonate resource "users" in API group "" at the cluster scope`
	if s := apiStatus(t, try(h.as("dev"))); s.Message != refused {
		t.Errorf("by dev: %s", s.Message)
	}
	u := h.admin()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, u.base+"/apis/authentication.k8s.io/v1/selfsubjectreviews", strings.NewReader("{}"))
	check(t, err)
	q.Header.Set("Content-Type", jsonType)
	q.Header.Set("Impersonate-User", "system:serviceaccount:ns:bot")
	if code, _, b := u.roundTrip(t, q); code != http.StatusCreated || !strings.Contains(string(b), `"groups":["system:serviceaccounts","system:serviceaccounts:ns","system:authenticated"]`) {
		t.Errorf("REST: %d %s", code, b)
	}
}

// A gRPC client that also offers HTTP/1.1 lands at the HTTP server, which knows it by its content type.
func TestGRPCBehindHTTP(t *testing.T) {
	h := start(t, engines()["memory"](t))
	cfg := &tls.Config{RootCAs: h.pki.Pool, Certificates: []tls.Certificate{h.pki.Issue(t, "kubernetes-admin", authn.Masters)}, NextProtos: []string{"h2", "http/1.1"}}
	conn, err := rpc.NewClient("passthrough:///"+h.address, rpc.WithTransportCredentials(credentials.NewTLS(cfg)))
	check(t, err)
	defer conn.Close()
	_, err = apiv1.NewResourceServiceClient(conn).Get(t.Context(), &apiv1.GetRequest{Ref: ref("", "services", "default", "kubernetes")})
	check(t, err)
}

// Watches end with UNAVAILABLE when the server stops, so that their clients go on elsewhere.
func TestWatchesEndWithTheServer(t *testing.T) {
	h := start(t, engines()["memory"](t))
	watch, err := h.admin().Watch(t.Context(), &apiv1.WatchRequest{Ref: ref("", "configmaps", "default", ""), ResourceVersion: "1"})
	check(t, err)
	_, err = watch.Header()
	check(t, err)
	go h.stop()
	for err == nil {
		_, err = watch.Recv()
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("the watch ended with %v", err)
	}
}

// A node reads the claims that its pods' ephemeral volumes made, and the secrets by which the volumes behind its pods' claims are mounted.
func TestNodeReadsWhatVolumesNeed(t *testing.T) {
	h := start(t, engines()["memory"](t))
	admin := h.admin()
	h.defaultAccount(admin)
	create := func(group, resource, namespace, body string) {
		t.Helper()
		_, err := admin.Create(t.Context(), &apiv1.CreateRequest{Ref: ref(group, resource, namespace, ""), Object: asJSON(t, "application/json", body)})
		check(t, err)
	}
	claim := func(name string) string {
		return `{"metadata":{"name":"` + name + `"},"spec":{"volumeName":"pv","accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}`
	}
	for _, name := range []string{"mine", "p-scratch", "other"} {
		create("", "persistentvolumeclaims", "default", claim(name))
	}
	create("", "persistentvolumes", "", `{"metadata":{"name":"pv"},"spec":{"capacity":{"storage":"1Gi"},"accessModes":["ReadWriteOnce"],
		"claimRef":{"namespace":"default","name":"mine"},"csi":{"driver":"d","volumeHandle":"h","nodeStageSecretRef":{"namespace":"vault","name":"stage"},
		"controllerPublishSecretRef":{"namespace":"vault","name":"attach"}}}}`)
	create("", "namespaces", "", `{"metadata":{"name":"vault"}}`)
	for _, name := range []string{"stage", "attach"} {
		create("", "secrets", "vault", `{"metadata":{"name":"`+name+`"}}`)
	}
	p := pod("p")
	p.Spec.NodeName = "n1"
	p.Spec.Volumes = []corev1.Volume{
		{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "mine"}}},
		{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		}}}}},
	}
	_, err := admin.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "pods", "default", ""), Object: asProto(t, podURL, p)})
	check(t, err)
	n1, n2 := h.as("system:node:n1", authn.Nodes), h.as("system:node:n2", authn.Nodes)
	for what, c := range map[string]struct {
		u                         *user
		resource, namespace, name string
		want                      codes.Code
	}{
		"claim":                  {n1, "persistentvolumeclaims", "default", "mine", codes.OK},
		"ephemeral volume":       {n1, "persistentvolumeclaims", "default", "p-scratch", codes.OK},
		"another claim":          {n1, "persistentvolumeclaims", "default", "other", codes.PermissionDenied},
		"volume's secret":        {n1, "secrets", "vault", "stage", codes.OK},
		"controller's secret":    {n1, "secrets", "vault", "attach", codes.PermissionDenied},
		"secret, for another":    {n2, "secrets", "vault", "stage", codes.PermissionDenied},
		"ephemeral, for another": {n2, "persistentvolumeclaims", "default", "p-scratch", codes.PermissionDenied},
	} {
		_, err := c.u.Get(t.Context(), &apiv1.GetRequest{Ref: ref("", c.resource, c.namespace, c.name)})
		if got := status.Code(err); got != c.want {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
}
