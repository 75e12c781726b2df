package server

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"

	"bareboat.dev/client"
	"bareboat.dev/kubelet/stats"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// reviews is an API server that knows one ServiceAccount, which may read the metrics of node1.
type reviews struct {
	apiv1.UnimplementedResourceServiceServer
	asked atomic.Int32
	away  atomic.Bool
}

const metricsReader = "system:serviceaccount:kube-system:metrics-server"

func (s *reviews) Create(_ context.Context, r *apiv1.CreateRequest) (*apiv1.CreateResponse, error) {
	s.asked.Add(1)
	if s.away.Load() {
		return nil, status.Error(codes.Internal, "away")
	}
	answer := &anypb.Any{TypeUrl: r.GetObject().GetTypeUrl()}
	var err error
	switch r.GetRef().GetResource() {
	case "tokenreviews":
		var review authenticationv1.TokenReview
		if err := review.Unmarshal(r.GetObject().GetValue()); err != nil {
			return nil, err
		}
		if review.Spec.Token == "good" {
			review.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{
				Username: metricsReader, Groups: []string{"system:serviceaccounts"}, Extra: map[string]authenticationv1.ExtraValue{"pod": {"p"}}}}
		}
		answer.Value, err = review.Marshal()
	case "subjectaccessreviews":
		var review authorizationv1.SubjectAccessReview
		if err := review.Unmarshal(r.GetObject().GetValue()); err != nil {
			return nil, err
		}
		a := review.Spec.ResourceAttributes
		review.Status.Allowed = review.Spec.User == metricsReader && review.Spec.Groups[0] == "system:serviceaccounts" && review.Spec.Extra["pod"][0] == "p" &&
			a.Verb == "get" && a.Resource == "nodes" && a.Subresource == "metrics" && a.Name == "node1"
		answer.Value, err = review.Marshal()
	default:
		return nil, status.Error(codes.Unimplemented, r.GetRef().GetResource())
	}
	return &apiv1.CreateResponse{Object: answer}, err
}

// TestReviewer shows that a ServiceAccount's token opens what RBAC lets it, as the API server says over the wire, that answers are
// remembered for a while and not longer, and that without an answer nothing is open.
func TestReviewer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	api, healthy := &reviews{}, health.NewServer()
	g := grpc.NewServer()
	apiv1.RegisterResourceServiceServer(g, api)
	grpc_health_v1.RegisterHealthServer(g, healthy)
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	defer func() {
		g.Stop()
		<-served
	}()
	c, err := client.Dial(&client.Config{Endpoints: []string{l.Addr().String()}, Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	reviewer := NewReviewer(c, "node1")
	now := time.Now()
	reviewer.now = func() time.Time { return now }
	web := Web(stats.New("node1", none{}, none{}, nil), local(), reviewer, http.NotFoundHandler())
	get := func(path, token string, code int) {
		t.Helper()
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		if web.ServeHTTP(w, r); w.Code != code {
			t.Errorf("%s with %s: %d %s, want %d", path, token, w.Code, w.Body, code)
		}
	}
	get("/metrics/resource", "good", 200)
	get("/stats/summary", "good", 403)
	get("/metrics/resource", "bad", 401)
	before := api.asked.Load()
	get("/metrics/resource", "good", 200)
	get("/stats/summary", "good", 403)
	if n := api.asked.Load(); n != before {
		t.Errorf("asked %d times for what was known", n-before)
	}
	api.away.Store(true)
	get("/metrics/resource", "good", 200)
	get("/metrics/resource", "new", 401)
	now = now.Add(deniedAge)
	get("/stats/summary", "good", 503)
	now = now.Add(allowedAge)
	get("/metrics/resource", "good", 401)
}
