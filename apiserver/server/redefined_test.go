package server_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/memory"
)

// behind is a shared engine whose watchers see nothing new while it is held.
type behind struct {
	shared
	mu      sync.Mutex
	release chan struct{}
}

// hold lets the watchers see nothing from now on, until what it returns is called.
func (b *behind) hold() (release func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	held := make(chan struct{})
	b.release = held
	return sync.OnceFunc(func() { close(held) })
}

func (b *behind) Watch(ctx context.Context, prefix string, from storage.Revision) (storage.Watcher, error) {
	w, err := b.shared.Watch(ctx, prefix, from)
	if err != nil {
		return nil, err
	}
	return &behindWatcher{w, b}, nil
}

type behindWatcher struct {
	storage.Watcher
	engine *behind
}

// Next holds back what came while the engine was held.
func (w *behindWatcher) Next(ctx context.Context) (storage.Batch, error) {
	batch, err := w.Watcher.Next(ctx)
	w.engine.mu.Lock()
	release := w.engine.release
	w.engine.mu.Unlock()
	if err == nil && release != nil {
		<-release
	}
	return batch, err
}

// A server that does not know yet that a definition is being deleted, or has gone, creates no object of it that would stay behind; and one
// that does not know yet that the definition has merely changed creates objects as ever.
func TestCustomResourceDeletedElsewhere(t *testing.T) {
	store := memory.New()
	a := start(t, store).admin()
	define(t, a, crontabs)
	late := &behind{shared: shared{store}}
	b := start(t, late).admin()
	b.ask(t, "GET", stable, "", "").want(200)
	release := late.hold()
	defer release()

	a.ask(t, "PATCH", crds+"/crontabs.stable.example.com", merge, `{"metadata":{"labels":{"a":"b"}}}`).want(200)
	b.ask(t, "POST", stable, "", cron("after-a-change", "{cronSpec: x}")).want(201)

	held := strings.Replace(cron("held", "{cronSpec: x}"), "name: held", "name: held, finalizers: [example.com/f]", 1)
	a.ask(t, "POST", stable, "", held).want(201)
	a.ask(t, "DELETE", crds+"/crontabs.stable.example.com", "", "").want(200)
	refused := b.ask(t, "POST", stable, "", cron("while-it-goes", "{cronSpec: x}")).want(403)
	if !strings.Contains(refused.at("message"), "create not allowed while custom resource definition is terminating") {
		t.Errorf("refused: %s", refused.at("message"))
	}

	a.ask(t, "PATCH", stable+"/held", merge, `{"metadata":{"finalizers":null}}`).want(200)
	await(t, a, crds, "crontabs.stable.example.com", nil)
	b.ask(t, "POST", stable, "", cron("after-it", "{cronSpec: x}")).want(404)
	left, err := store.List(t.Context(), "/registry/stable.example.com/", storage.ListOptions{})
	check(t, err)
	for _, e := range left.Entries {
		t.Errorf("%s stayed behind", e.Key)
	}
}
