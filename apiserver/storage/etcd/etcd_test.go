package etcd

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-semver/semver"
	"go.uber.org/goleak"

	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/etcd/etcdtest"
	"bareboat.dev/apiserver/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, s *etcdtest.Server, progress *bool) *Engine {
	t.Helper()
	e, err := Open(context.Background(), Config{Endpoints: []string{s.Endpoint}, progress: progress})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// The etcd engine keeps the storage contract against a real server. Progress is asked for although this server may be one
// that lets it overtake events: the suite's test of it has none under way.
func TestConformance(t *testing.T) {
	server := etcdtest.Start(t)
	storagetest.Run(t, storagetest.Setup{
		New: func(t testing.TB) storage.Engine {
			server.Clear(t)
			progress := t.Name() == "TestConformance/a_watcher_makes_progress_without_events"
			return open(t, server, &progress)
		},
		Reopen: func(t testing.TB, e storage.Engine) storage.Engine {
			server.Kill()
			e.Close()
			server.Restart(t)
			return open(t, server, nil)
		},
	})
}

// Progress notifications are used only with servers that order them.
func TestVersions(t *testing.T) {
	for version, want := range map[string]bool{
		"3.4.23": false, "3.4.30": false, "3.4.31": true, "3.5.0": false, "3.5.12": false, "3.5.13": true, "3.5.21": true, "3.6.0": true, "4.0.0": true, "3.3.99": false,
	} {
		if got := ordered(*semver.New(version)); got != want {
			t.Errorf("%s: %v", version, got)
		}
	}
}

// A commit that the server does not answer in time has an unknown outcome; reads say that the store is unavailable or that
// time is up; and everything works again when the server does.
func TestStalledServer(t *testing.T) {
	server := etcdtest.Start(t)
	e := open(t, server, nil)
	ctx := t.Context()
	if _, err := e.Commit(ctx, storage.Op{Key: "/a", Value: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := e.Commit(short, storage.Op{Key: "/a", Value: []byte("2")}); !errors.Is(err, storage.ErrUnknownOutcome) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("commit: %v", err)
	}
	if _, _, err := e.Get(short, "/a", storage.Latest); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("get: %v", err)
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Commit(ctx, storage.Op{Key: "/b"}); err != nil {
		t.Error(err)
	}
}

// A watch goes on after the server was killed and started again, without missing or repeating an event.
func TestWatchSurvivesRestart(t *testing.T) {
	server := etcdtest.Start(t)
	e := open(t, server, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	w, err := e.Watch(ctx, "/", storage.Latest)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for i := range 2 {
		rev, err := e.Commit(ctx, storage.Op{Key: "/a", Value: []byte{byte(i)}})
		if err != nil {
			t.Fatal(err)
		}
		b, err := w.Next(ctx)
		if err != nil || len(b.Events) != 1 || b.Revision != rev {
			t.Fatalf("round %d: %+v %v, commit at %d", i, b, err, rev)
		}
		server.Restart(t)
	}
}

// Nobody there is one sentence that names the address.
func TestNobodyThere(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, Config{Endpoints: []string{"http://127.0.0.1:1"}}); err == nil {
		t.Error("opened")
	} else if !strings.Contains(err.Error(), "http://127.0.0.1:1: ") || !strings.Contains(err.Error(), "connection refused") {
		t.Error(err)
	}
}

// The engine shows its certificate to a server that wants one, and is refused without it.
func TestTLS(t *testing.T) {
	server := etcdtest.StartTLS(t)
	e, err := Open(t.Context(), Config{Endpoints: []string{server.Endpoint}, TLS: server.TLS})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, err := e.Commit(t.Context(), storage.Op{Key: "/a"}); err != nil {
		t.Error(err)
	}
	nameless := server.TLS.Clone()
	nameless.Certificates = nil
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if e, err := Open(ctx, Config{Endpoints: []string{server.Endpoint}, TLS: nameless}); err == nil {
		e.Close()
		t.Error("opened without a certificate")
	} else if !strings.Contains(err.Error(), "certificate") || !strings.Contains(err.Error(), server.Endpoint) {
		t.Errorf("refused without a certificate: %v", err)
	}
}

// Another etcd client reads the keys and values as they are, and sees what it writes.
func TestPlainKeys(t *testing.T) {
	server := etcdtest.Start(t)
	e := open(t, server, nil)
	if _, err := e.Commit(t.Context(), storage.Op{Key: "/registry/pods/default/web", Value: []byte("k8s\x00value")}); err != nil {
		t.Fatal(err)
	}
	client := server.Client(t)
	defer client.Close()
	r, err := client.Get(t.Context(), "/registry/pods/default/web")
	if err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "k8s\x00value" {
		t.Errorf("%v %v", r, err)
	}
	if _, err := client.Put(t.Context(), "/registry/pods/default/other", "x"); err != nil {
		t.Fatal(err)
	}
	if got, _, err := e.Get(t.Context(), "/registry/pods/default/other", storage.Latest); err != nil || string(got.Value) != "x" {
		t.Errorf("%v %v", got, err)
	}
}

// enveloped makes every value one that can share a transaction.
type enveloped struct{ *Engine }

func (e enveloped) Commit(ctx context.Context, ops ...storage.Op) (storage.Revision, error) {
	if storage.Validate(ops) == nil {
		ops = slices.Clone(ops)
		for i := range ops {
			if ops[i].Type == storage.Put && len(ops[i].Value) < 1<<20 {
				ops[i].Value = append([]byte(envelope), ops[i].Value...)
			}
		}
	}
	rev, err := e.Engine.Commit(ctx, ops...)
	var c *storage.ConflictError
	if errors.As(err, &c) && c.Current != nil {
		*c.Current = bare(*c.Current)
	}
	return rev, err
}

func (e enveloped) Get(ctx context.Context, key string, at storage.Revision) (storage.Entry, storage.Revision, error) {
	entry, rev, err := e.Engine.Get(ctx, key, at)
	return bare(entry), rev, err
}

func (e enveloped) List(ctx context.Context, prefix string, opts storage.ListOptions) (storage.ListResult, error) {
	r, err := e.Engine.List(ctx, prefix, opts)
	for i := range r.Entries {
		r.Entries[i] = bare(r.Entries[i])
	}
	return r, err
}

func (e enveloped) Watch(ctx context.Context, prefix string, from storage.Revision) (storage.Watcher, error) {
	w, err := e.Engine.Watch(ctx, prefix, from)
	if err != nil {
		return nil, err
	}
	return envelopedWatcher{w}, nil
}

type envelopedWatcher struct{ storage.Watcher }

func (w envelopedWatcher) Next(ctx context.Context) (storage.Batch, error) {
	b, err := w.Watcher.Next(ctx)
	for i := range b.Events {
		b.Events[i].Entry = bare(b.Events[i].Entry)
	}
	return b, err
}

func bare(e storage.Entry) storage.Entry {
	e.Value = bytes.TrimPrefix(e.Value, []byte(envelope))
	return e
}

// The engine keeps the contract with values that let commits share transactions.
func TestConformanceShared(t *testing.T) {
	server := etcdtest.Start(t)
	storagetest.Run(t, storagetest.Setup{
		Stride: stride,
		New: func(t testing.TB) storage.Engine {
			server.Clear(t)
			progress := strings.HasSuffix(t.Name(), "/a_watcher_makes_progress_without_events")
			return enveloped{open(t, server, &progress)}
		},
		Reopen: func(t testing.TB, e storage.Engine) storage.Engine {
			server.Kill()
			e.Close()
			server.Restart(t)
			return enveloped{open(t, server, nil)}
		},
	})
}
