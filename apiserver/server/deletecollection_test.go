package server_test

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/memory"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// meddler lets somebody else be faster than the first deletion of a key.
type meddler struct {
	storage.Engine
	key  string
	once sync.Once
	// change makes what the key holds from what it held.
	change func(value []byte) []byte
}

func (m *meddler) Commit(ctx context.Context, ops ...storage.Op) (storage.Revision, error) {
	if ops[0].Type == storage.Delete && ops[0].Key == m.key {
		m.once.Do(func() {
			e, _, err := m.Engine.Get(ctx, m.key, storage.Latest)
			if err == nil {
				_, err = m.Engine.Commit(ctx, storage.Op{Type: storage.Put, Key: m.key, Value: m.change(e.Value)})
			}
			if err != nil {
				panic(err)
			}
		})
	}
	return m.Engine.Commit(ctx, ops...)
}

// A collection's deletion takes what it found, not an object that has taken a found one's name since, nor one that the selector no
// longer selects; an object that has only changed goes.
func TestDeleteCollectionLeavesOthersAlone(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(value []byte, uid string) []byte
		left   bool
	}{
		"replaced":            {func(v []byte, uid string) []byte { return bytes.ReplaceAll(v, []byte(uid), []byte("aaaaaaaa"+uid[8:])) }, true},
		"no longer selected":  {func(v []byte, _ string) []byte { return bytes.ReplaceAll(v, []byte("red"), []byte("sad")) }, true},
		"changed in its data": {func(v []byte, _ string) []byte { return bytes.ReplaceAll(v, []byte("old"), []byte("new")) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := &meddler{Engine: memory.New(), key: "/registry/configmaps/default/a"}
			u := start(t, m).admin()
			a := configMap("a", "k", "old")
			a.Labels = map[string]string{"color": "red"}
			uid := string(u.create(t, a).UID)
			m.change = func(v []byte) []byte { return tc.change(v, uid) }
			b := configMap("b")
			b.Labels = a.Labels
			u.create(t, b)
			u.create(t, configMap("c"))
			res, err := u.DeleteCollection(t.Context(), &apiv1.DeleteCollectionRequest{Ref: ref("", "configmaps", "default", ""), LabelSelector: "color=red"})
			check(t, err)
			want := int64(2)
			if tc.left {
				want--
			}
			if res.GetCount() != want {
				t.Errorf("%d were deleted, not %d", res.GetCount(), want)
			}
			if _, err := u.Get(t.Context(), &apiv1.GetRequest{Ref: ref("", "configmaps", "default", "a")}); (err == nil) != tc.left {
				t.Errorf("%v", err)
			}
		})
	}
}

// An eviction takes the pod that it was decided for, not another that has taken its name meanwhile.
func TestEvictionLeavesOthersAlone(t *testing.T) {
	m := &meddler{Engine: memory.New(), key: "/registry/pods/default/a"}
	h := start(t, m)
	u := h.admin()
	h.defaultAccount(u)
	made, err := u.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "pods", "default", ""), Object: asProto(t, podURL, benchPod("a"))})
	check(t, err)
	uid := string(into(t, made.GetObject(), benchPod("")).UID)
	m.change = func(v []byte) []byte { return bytes.ReplaceAll(v, []byte(uid), []byte("aaaaaaaa"+uid[8:])) }
	code, _, _ := u.rest(t, "POST", "/api/v1/namespaces/default/pods/a/eviction", "application/json", `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"a"},"deleteOptions":{"gracePeriodSeconds":0}}`)
	if code != 409 {
		t.Errorf("evicting a pod that was replaced: %d", code)
	}
	got, err := u.Get(t.Context(), &apiv1.GetRequest{Ref: ref("", "pods", "default", "a")})
	check(t, err)
	if p := into(t, got.GetObject(), benchPod("")); p.DeletionTimestamp != nil {
		t.Error("the other pod is being deleted")
	}
}
