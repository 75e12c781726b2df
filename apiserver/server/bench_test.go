package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/apiserver/storage"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// benchClients is how many clients write at once.
const benchClients = 64

func benchPod(name string) *corev1.Pod {
	p := pod(name)
	p.Namespace, p.Labels = "default", map[string]string{"app": "web", "pod-template-hash": "6b7f675d7c"}
	return p
}

// parallel calls do n times from benchClients goroutines.
func parallel(b *testing.B, n int, do func(i int) error) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range benchClients {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// Pods created through gRPC by 64 clients, against commits of the same bytes to the engine alone.
func BenchmarkCreatePods(b *testing.B) {
	for name, engine := range engines() {
		b.Run(name+"/engine", func(b *testing.B) {
			e := engine(b)
			defer e.Close()
			p := benchPod("x")
			p.UID = types.UID("06c5edce-c476-438c-94da-a30104017516")
			value, err := p.Marshal()
			check(b, err)
			b.ResetTimer()
			parallel(b, b.N, func(i int) error {
				_, err := e.Commit(context.Background(), storage.Op{Type: storage.Put, Key: fmt.Sprintf("/registry/pods/default/p-%d", i), Value: value, If: storage.Absent})
				return err
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "creates/s")
		})
		b.Run(name+"/grpc", func(b *testing.B) {
			h := start(b, engine(b))
			admin := h.admin()
			h.defaultAccount(admin)
			users := make([]*user, 8) // as many connections as a client would open for 64 callers
			for i := range users {
				users[i] = h.admin()
			}
			b.ResetTimer()
			parallel(b, b.N, func(i int) error {
				_, err := users[i%len(users)].Create(b.Context(), &apiv1.CreateRequest{
					Ref: ref("", "pods", "default", ""), Object: asProto(b, podURL, benchPod(fmt.Sprintf("p-%d", i))),
				})
				return err
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "creates/s")
		})
	}
}

// ConfigMaps of a KiB created by 64 callers over one connection, as a Go program with one client makes them.
func BenchmarkCreateConfigMaps(b *testing.B) {
	const mapURL = "k8s.io.api.core.v1.ConfigMap"
	data := map[string]string{"v": strings.Repeat("x", 1<<10)}
	for name, engine := range engines() {
		b.Run(name, func(b *testing.B) {
			h := start(b, engine(b))
			admin := h.admin()
			h.defaultAccount(admin)
			b.ReportAllocs()
			b.ResetTimer()
			parallel(b, b.N, func(i int) error {
				obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("m-%d", i)}, Data: data}
				_, err := admin.Create(b.Context(), &apiv1.CreateRequest{Ref: ref("", "configmaps", "default", ""), Object: asProto(b, mapURL, obj)})
				return err
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "creates/s")
		})
	}
}

// fill stores n pods.
func fill(b *testing.B, u *user, n int) {
	b.Helper()
	const batch = 500
	for from := 0; from < n; from += batch {
		q := &apiv1.BatchRequest{OmitObjects: true}
		for i := from; i < min(n, from+batch); i++ {
			q.Operations = append(q.Operations, &apiv1.Operation{Operation: &apiv1.Operation_Create{Create: &apiv1.CreateRequest{
				Ref: ref("", "pods", "default", ""), Object: asProto(b, podURL, benchPod(fmt.Sprintf("p-%06d", i))),
			}}})
		}
		resp, err := u.Batch(b.Context(), q)
		check(b, err)
		for _, r := range resp.GetResults() {
			if r.GetError() != nil {
				b.Fatal(r.GetError().GetMessage())
			}
		}
	}
}

// A list of 10,000 pods to its last byte.
func BenchmarkList10000Pods(b *testing.B) {
	h := start(b, engines()["memory"](b))
	u := h.admin()
	h.defaultAccount(u)
	fill(b, u, 10_000)
	b.Run("grpc", func(b *testing.B) {
		for range b.N {
			stream, err := u.List(b.Context(), &apiv1.ListRequest{Ref: ref("", "pods", "", "")})
			check(b, err)
			n := 0
			for {
				m, err := stream.Recv()
				if errors.Is(err, io.EOF) {
					break
				}
				check(b, err)
				n += len(m.GetItems())
			}
			if n != 10_000 {
				b.Fatalf("listed %d", n)
			}
		}
	})
	for _, accept := range []string{"application/vnd.kubernetes.protobuf", "application/json"} {
		b.Run("rest/"+accept, func(b *testing.B) {
			for range b.N {
				body := u.get(b, "/api/v1/pods", accept)
				b.SetBytes(int64(len(body)))
			}
		})
	}
}

// One write reaching 500 watchers.
func BenchmarkWatchFanOut(b *testing.B) {
	const watchers = 500
	h := start(b, engines()["memory"](b))
	u := h.admin()
	u.create(b, configMap("a"))
	var seen sync.WaitGroup
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var ended sync.WaitGroup
	conns := make([]*user, 10)
	for i := range conns {
		conns[i] = h.admin()
	}
	for i := range watchers {
		w, err := conns[i%len(conns)].Watch(ctx, &apiv1.WatchRequest{Ref: ref("", "configmaps", "default", ""), SendInitialEvents: true})
		check(b, err)
		ready := make(chan struct{})
		ended.Go(func() {
			initial := true
			for {
				m, err := w.Recv()
				if err != nil {
					return
				}
				for _, e := range m.GetEvents() {
					switch {
					case e.GetInitialEventsEnd():
						initial = false
						close(ready)
					case !initial && e.GetType() == apiv1.Event_TYPE_MODIFIED:
						seen.Done()
					}
				}
			}
		})
		<-ready
	}
	b.ResetTimer()
	for i := range b.N {
		seen.Add(watchers)
		_, err := u.Update(b.Context(), &apiv1.UpdateRequest{
			Ref:    ref("", "configmaps", "default", "a"),
			Object: asProto(b, configMapURL, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Data: map[string]string{"n": fmt.Sprint(i)}}),
		})
		check(b, err)
		seen.Wait()
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)*watchers/b.Elapsed().Seconds(), "events/s")
	cancel()
	ended.Wait()
}
