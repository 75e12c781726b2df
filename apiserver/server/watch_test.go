package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"strconv"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// list reads a whole list.
func (u *user) list(t testing.TB, q *apiv1.ListRequest) (items []*corev1.ConfigMap, revision int64, next string) {
	t.Helper()
	stream, err := u.List(t.Context(), q)
	check(t, err)
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return items, revision, next
		}
		check(t, err)
		revision, next = m.GetRevision(), m.GetContinue()
		for _, a := range m.GetItems() {
			items = append(items, into(t, a, &corev1.ConfigMap{}))
		}
	}
}

// A list at R and a watch from R give the state at every later revision, exactly, on each engine, whatever the writes.
func TestWatchContract(t *testing.T) {
	for name, engine := range engines() {
		t.Run(name, func(t *testing.T) {
			u := start(t, engine(t)).admin()
			random := rand.New(rand.NewSource(1))
			write := func() {
				id := fmt.Sprintf("m-%d", random.Intn(10))
				m := configMap(id, "v", strconv.Itoa(random.Int()))
				m.Labels = map[string]string{"even": strconv.FormatBool(random.Intn(2) == 0)}
				at := ref("", "configmaps", "default", id)
				var err error
				switch random.Intn(3) {
				case 0:
					_, err = u.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "configmaps", "default", ""), Object: asProto(t, configMapURL, m)})
				case 1:
					_, err = u.Update(t.Context(), &apiv1.UpdateRequest{Ref: at, Object: asProto(t, configMapURL, m)})
				case 2:
					_, err = u.Delete(t.Context(), &apiv1.DeleteRequest{Ref: at})
				}
				if c := status.Code(err); c != codes.OK && c != codes.NotFound && c != codes.AlreadyExists {
					t.Fatal(err)
				}
			}
			for range 20 {
				write()
			}
			q := &apiv1.ListRequest{Ref: ref("", "configmaps", "default", ""), LabelSelector: "even=true"}
			items, rev, _ := u.list(t, q)
			state := map[string]string{}
			for _, m := range items {
				state[m.Name] = m.ResourceVersion
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			watch, err := u.Watch(ctx, &apiv1.WatchRequest{Ref: q.GetRef(), LabelSelector: q.GetLabelSelector(), ResourceVersion: strconv.FormatInt(rev, 10)})
			check(t, err)
			for range 300 {
				write()
			}
			u.create(t, func() *corev1.ConfigMap {
				m := configMap("end")
				m.Labels = map[string]string{"even": "true"}
				return m
			}())
			follow(t, watch, state)
			want, _, _ := u.list(t, q)
			if len(want) != len(state) {
				t.Fatalf("followed to %d objects, listed %d", len(state), len(want))
			}
			for _, m := range want {
				if state[m.Name] != m.ResourceVersion {
					t.Errorf("%s followed to %s, listed at %s", m.Name, state[m.Name], m.ResourceVersion)
				}
			}
		})
	}
}

// follow applies a watch's events to a state until the object "end" appears, and checks that each event fits.
func follow(t *testing.T, watch apiv1.ResourceService_WatchClient, state map[string]string) {
	t.Helper()
	last := int64(0)
	for {
		m, err := watch.Recv()
		check(t, err)
		for _, e := range m.GetEvents() {
			obj := into(t, e.GetObject(), &corev1.ConfigMap{})
			rev, err := strconv.ParseInt(obj.ResourceVersion, 10, 64)
			check(t, err)
			if rev <= last {
				t.Fatalf("event at %d after one at %d", rev, last)
			}
			last = rev
			_, known := state[obj.Name]
			switch e.GetType() {
			case apiv1.Event_TYPE_ADDED:
				if known {
					t.Fatalf("ADDED %s, which was there", obj.Name)
				}
				state[obj.Name] = obj.ResourceVersion
			case apiv1.Event_TYPE_MODIFIED:
				if !known {
					t.Fatalf("MODIFIED %s, which was not there", obj.Name)
				}
				state[obj.Name] = obj.ResourceVersion
			case apiv1.Event_TYPE_DELETED:
				if !known {
					t.Fatalf("DELETED %s, which was not there", obj.Name)
				}
				delete(state, obj.Name)
			}
			if obj.Name == "end" {
				return
			}
		}
	}
}

// Initial events end with one bookmark that says so; a watch without a revision begins with what is there.
func TestInitialEvents(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	u.create(t, configMap("a"))
	for _, initial := range []bool{true, false} {
		ctx, cancel := context.WithCancel(t.Context())
		watch, err := u.Watch(ctx, &apiv1.WatchRequest{Ref: ref("", "configmaps", "default", ""), SendInitialEvents: initial, AllowBookmarks: true})
		check(t, err)
		var types []apiv1.Event_Type
		for len(types) == 0 || initial && types[len(types)-1] != apiv1.Event_TYPE_BOOKMARK {
			m, err := watch.Recv()
			check(t, err)
			for _, e := range m.GetEvents() {
				types = append(types, e.GetType())
				if e.GetType() == apiv1.Event_TYPE_BOOKMARK && (!e.GetInitialEventsEnd() || m.GetRevision() == 0) {
					t.Errorf("bookmark %v at %d", e, m.GetRevision())
				}
			}
		}
		if types[0] != apiv1.Event_TYPE_ADDED {
			t.Errorf("events %v", types)
		}
		cancel()
	}
}

// A limited list goes on at its revision though objects come and go; a bad token is refused.
func TestListInPages(t *testing.T) {
	u := start(t, engines()["sqlite"](t)).admin()
	for i := range 10 {
		u.create(t, configMap(fmt.Sprintf("m-%d", i)))
	}
	q := &apiv1.ListRequest{Ref: ref("", "configmaps", "default", ""), Limit: 4}
	var names []string
	for page := 0; ; page++ {
		items, _, next := u.list(t, q)
		for _, m := range items {
			names = append(names, m.Name)
		}
		if next == "" {
			break
		}
		_, err := u.Delete(t.Context(), &apiv1.DeleteRequest{Ref: ref("", "configmaps", "default", fmt.Sprintf("m-%d", 9-page))})
		check(t, err)
		q.Continue = next
	}
	if len(names) != 10 || names[9] != "m-9" {
		t.Errorf("pages gave %v", names)
	}
	stream, err := u.List(t.Context(), &apiv1.ListRequest{Ref: q.GetRef(), Limit: 4, Continue: "bad"})
	check(t, err)
	if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("bad token: %v", err)
	}
}

// Fields that a kind does not declare cannot be selected on, and the error says which.
func TestSelectors(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	for selector, want := range map[string]string{"spec.color=red": `"spec.color" is not a known field selector: only "metadata.name", "metadata.namespace"`, "a=b=c=d": ""} {
		stream, err := u.List(t.Context(), &apiv1.ListRequest{Ref: ref("", "configmaps", "default", ""), FieldSelector: selector})
		check(t, err)
		_, err = stream.Recv()
		if s := apiStatus(t, err); status.Code(err) != codes.InvalidArgument || want != "" && s.Message != want {
			t.Errorf("%s: %v", selector, err)
		}
	}
}
