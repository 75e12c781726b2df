package image

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// isBlob recognizes the download of a layer or config.
func isBlob(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/sha256:")
}

// Shows that an index is resolved to this machine's entry, that the digest under which it is known is the index's, and that a platform
// that it lacks is an error that lists what it has.
func TestPullIndex(t *testing.T) {
	reg := newRegistry(t, nil)
	amd := newImage(t, v1.Config{Cmd: []string{"amd"}}, newLayer(t, "gzip", file("a", "amd")))
	arm := newImage(t, v1.Config{Cmd: []string{"arm"}}, newLayer(t, "gzip", file("a", "arm")))
	ix := mutate.AppendManifests(emptyIndex(),
		mutate.IndexAddendum{Add: arm, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}}},
		mutate.IndexAddendum{Add: amd, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
	)
	tag, err := name.NewTag(reg.host + "/multi:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(tag, ix); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, Options{})
	img, err := s.Pull(t.Context(), tag.Name(), PullOptions{})
	if err != nil || img.Config.Cmd[0] != "amd" {
		t.Fatalf("image %+v, %v", img, err)
	}
	digest, _ := ix.Digest()
	byDigest := reg.host + "/multi@" + digest.String()
	if len(img.RepoDigests) != 1 || img.RepoDigests[0] != byDigest {
		t.Errorf("digests %v, want %s", img.RepoDigests, byDigest)
	}
	if same, err := s.Get(byDigest); err != nil || same.ID != img.ID {
		t.Errorf("by digest: %+v, %v", same, err)
	}
	other := openStore(t, Options{Platform: "linux/s390x"})
	if _, err := other.Pull(t.Context(), tag.Name(), PullOptions{}); !errors.Is(err, ErrNoPlatform) || !strings.Contains(err.Error(), "linux/arm64/v8, linux/amd64") {
		t.Errorf("pull for s390x: %v", err)
	}
}

// Shows that a tag that moved names the new image, and that the old one stays, known by its digest.
func TestPullMovedTag(t *testing.T) {
	reg := newRegistry(t, nil)
	s := openStore(t, Options{})
	ref := reg.push(t, "app:latest", newImage(t, v1.Config{}, newLayer(t, "", file("v", "1"))))
	first, err := s.Pull(t.Context(), reg.host+"/app", PullOptions{}) // no tag means latest
	if err != nil {
		t.Fatal(err)
	}
	reg.push(t, "app:latest", newImage(t, v1.Config{}, newLayer(t, "", file("v", "2"))))
	second, err := s.Pull(t.Context(), ref, PullOptions{})
	if err != nil || second.ID == first.ID {
		t.Fatalf("%+v, %v", second, err)
	}
	old, err := s.Get(first.ID)
	if err != nil || len(old.RepoTags) != 0 || len(old.RepoDigests) != 1 {
		t.Errorf("the old image: %+v, %v", old, err)
	}
}

// Shows that pulls of images that share layers, at the same time, fetch each blob once.
func TestConcurrentPullsShareDownloads(t *testing.T) {
	var blobs sync.Map
	reg := newRegistry(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if isBlob(r) {
				n, _ := blobs.LoadOrStore(r.URL.Path[strings.LastIndex(r.URL.Path, "/"):], new(atomic.Int32))
				n.(*atomic.Int32).Add(1)
			}
			next.ServeHTTP(w, r)
		})
	})
	shared := newLayer(t, "gzip", file("shared", strings.Repeat("x", 1<<20)))
	var refs []string
	for i := range 6 {
		refs = append(refs, reg.push(t, fmt.Sprintf("app%d:1", i%3), newImage(t, v1.Config{}, shared, newLayer(t, "gzip", file("own", fmt.Sprint(i%3))))))
	}
	blobs.Clear() // pushing reads, too
	s := openStore(t, Options{})
	var group sync.WaitGroup
	for _, ref := range refs {
		group.Go(func() {
			if _, err := s.Pull(t.Context(), ref, PullOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	digest, _ := shared.Digest()
	if n, ok := blobs.Load("/" + digest.String()); !ok || n.(*atomic.Int32).Load() != 1 {
		t.Errorf("the shared layer was fetched %v times", n)
	}
	if len(s.List()) != 3 {
		t.Errorf("%d images", len(s.List()))
	}
}

// Shows that a download that is cut off goes on where it stopped, within a pull and in a later one, even by another process.
func TestPullResumes(t *testing.T) {
	const cut = 100 << 10
	var ranges []string
	var mu sync.Mutex
	var broken atomic.Bool
	broken.Store(true)
	layer := newLayer(t, "", file("big", strings.Repeat("0123456789", 100<<10)))
	digest, _ := layer.Digest()
	reg := newRegistry(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !isBlob(r) || !strings.HasSuffix(r.URL.Path, digest.String()) {
				next.ServeHTTP(w, r)
				return
			}
			mu.Lock()
			ranges = append(ranges, r.Header.Get("Range"))
			first := len(ranges) == 1
			mu.Unlock()
			if broken.Load() && !first {
				http.Error(w, "gone for now", http.StatusNotFound) // final: the pull fails
				return
			}
			if first {
				w = &cutWriter{ResponseWriter: w, left: cut}
			}
			next.ServeHTTP(w, r)
		})
	})
	ref := reg.push(t, "big:1", newImage(t, v1.Config{}, layer))
	ranges = nil
	root := t.TempDir()
	needRoot(t)
	s, err := Open(root, Options{Platform: "linux/amd64"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pull(t.Context(), ref, PullOptions{}); !errors.Is(err, ErrNotFound) {
		t.Fatalf("the broken pull: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	broken.Store(false)
	again := openAt(t, root, Options{})
	if _, err := again.Pull(t.Context(), ref, PullOptions{}); err != nil {
		t.Fatal(err)
	}
	size, _ := layer.Size()
	want := fmt.Sprintf("bytes=%d-%d", cut, size-1)
	if len(ranges) != 3 || ranges[0] != "" || ranges[1] != want || ranges[2] != want {
		t.Errorf("ranges asked for: %q, want %q twice after the first", ranges, want)
	}
	if left, _ := os.ReadDir(again.path(partialDir)); len(left) != 0 {
		t.Errorf("partial downloads left: %v", left)
	}
}

// cutWriter breaks the connection after so many bytes.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if len(p) < c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	_, _ = c.ResponseWriter.Write(p[:c.left])
	_ = http.NewResponseController(c.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

// Shows which error a registry's and the network's ways of refusing become.
func TestPullErrors(t *testing.T) {
	password := newRegistry(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, pass, _ := r.BasicAuth(); user != "u" || pass != "p" {
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				http.Error(w, "who are you?", http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusBadGateway) }))
	defer broken.Close()
	s := openStore(t, Options{})
	for _, c := range []struct {
		ref  string
		want error
	}{
		{"Upper/Case", ErrInvalidName}, {"a b", ErrInvalidName}, {"", ErrInvalidName}, {"x:", ErrInvalidName},
		{"x@sha256:short", ErrInvalidName}, {" x", ErrInvalidName},
		{newRegistry(t, nil).host + "/none:1", ErrNotFound},
		{password.host + "/none:1", ErrUnauthorized},
		{"127.0.0.1:1/x:1", ErrUnavailable},
		{strings.TrimPrefix(broken.URL, "http://") + "/x:1", ErrUnavailable},
	} {
		if _, err := s.Pull(t.Context(), c.ref, PullOptions{}); !errors.Is(err, c.want) {
			t.Errorf("pull %q: %v, want %v", c.ref, err, c.want)
		}
	}
	_, err := s.Pull(t.Context(), password.host+"/none:1", PullOptions{Auth: []Auth{{Username: "u", Password: "wrong"}, {Username: "u", Password: "p"}}})
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("with the right password among others: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Pull(ctx, password.host+"/none:1", PullOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Shows that registries that stop in the middle of a layer hold up nobody for ever: their pulls end, and others get the slots, and the
// layer that one of them claimed to have.
func TestStalledRegistries(t *testing.T) {
	stalled := make(chan struct{}, 10)
	stall := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
				next.ServeHTTP(w, r)
				return
			}
			answer := httptest.NewRecorder()
			next.ServeHTTP(answer, r)
			if answer.Body.Len() > 0 && answer.Body.Bytes()[0] == '{' { // the config
				_, _ = w.Write(answer.Body.Bytes())
				return
			}
			w.Header().Set("Content-Length", strconv.Itoa(answer.Body.Len()))
			_, _ = w.Write(answer.Body.Bytes()[:1])
			w.(http.Flusher).Flush()
			stalled <- struct{}{}
			<-r.Context().Done()
		})
	}
	s := openStore(t, Options{ParallelDownloads: 1, Patience: 50 * time.Millisecond})
	shared := newLayer(t, "", file("a", "1"))
	var wg sync.WaitGroup
	for i, l := range []v1.Layer{shared, newLayer(t, "", file("b", "2"))} {
		ref := newRegistry(t, stall).push(t, "bad:1", newImage(t, v1.Config{}, l))
		wg.Go(func() {
			if _, err := s.Pull(t.Context(), ref, PullOptions{}); !errors.Is(err, ErrUnavailable) {
				t.Errorf("pull %d: %v", i, err)
			}
		})
		if i == 0 {
			<-stalled // else the healthy registry may give it the layer first
		}
	}
	good := newRegistry(t, nil).push(t, "good:1", newImage(t, v1.Config{}, shared))
	if _, err := s.Pull(t.Context(), good, PullOptions{}); err != nil {
		t.Errorf("a healthy registry's image: %v", err)
	}
	wg.Wait()
}

// Shows that a mirror serves another registry's image under that one's name, and that a mirror that lacks it or is down is passed over.
func TestMirrors(t *testing.T) {
	mirror, origin := newRegistry(t, nil), newRegistry(t, nil)
	mirror.push(t, "cache/team/app:1", newImage(t, v1.Config{}, newLayer(t, "", file("from", "mirror"))))
	ref := origin.push(t, "team/app:1", newImage(t, v1.Config{}, newLayer(t, "", file("from", "origin"))))
	for _, c := range []struct {
		mirrors []string
		want    string
	}{
		{[]string{"http://" + mirror.host + "/cache"}, "mirror"},
		{[]string{"http://127.0.0.1:1", "http://" + mirror.host + "/other"}, "origin"},
	} {
		s := openStore(t, Options{})
		img, err := s.Pull(t.Context(), ref, PullOptions{Mirrors: map[string][]string{origin.host: c.mirrors}})
		if err != nil || img.RepoTags[0] != ref {
			t.Fatalf("%+v, %v", img, err)
		}
		rootfs, err := s.Mount(t.Context(), img.ID, "c")
		if err != nil {
			t.Fatal(err)
		}
		if data, _ := os.ReadFile(filepath.Join(rootfs, "from")); string(data) != c.want {
			t.Errorf("mirrors %v: from %s, want %s", c.mirrors, data, c.want)
		}
	}
}

// Shows that plain HTTP is not fallen back to where nobody allowed it.
func TestPlainHTTPIsRefused(t *testing.T) {
	if !loopback("127.0.0.1:5000") || !loopback("localhost") || !loopback("[::1]:5000") || loopback("10.0.0.1:5000") || loopback("registry.example") {
		t.Error("loopback addresses are not told from others")
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://10.0.0.1:5000/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (onlyTLS{http.DefaultTransport}).RoundTrip(r); err == nil || !strings.Contains(err.Error(), "plain HTTP") {
		t.Errorf("round trip: %v", err)
	}
}

// Shows that Open clears away what crashes leave, keeps what is recorded, and that two processes cannot have one store.
func TestRecovery(t *testing.T) {
	reg := newRegistry(t, nil)
	ref := reg.push(t, "app:1", newImage(t, v1.Config{}, newLayer(t, "gzip", file("a", "1"))))
	root := t.TempDir()
	needRoot(t)
	s, err := Open(root, Options{Platform: "linux/amd64"})
	if err != nil {
		t.Fatal(err)
	}
	img, err := s.Pull(t.Context(), ref, PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rootfs, err := s.Mount(t.Context(), ref, "lives")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(root, Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	// As after a crash: no Close, but the lock goes with the process; a layer half moved, one unpacked without a name, a container half made.
	for _, dir := range []string{"tmp/layer-1/fs/x", "layers/" + strings.Repeat("a", 64) + "/fs", "containers/half/upper"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	_ = s.lock.Close()
	again := openAt(t, root, Options{})
	if got, err := again.Get(ref); err != nil || got.ID != img.ID {
		t.Errorf("after the crash: %+v, %v", got, err)
	}
	if ids, _ := again.Mounts(); len(ids) != 1 || ids[0] != "lives" {
		t.Errorf("mounts %v", ids)
	}
	if data, err := os.ReadFile(filepath.Join(rootfs, "a")); err != nil || string(data) != "1" {
		t.Errorf("the mounted root file system: %q, %v", data, err)
	}
	for _, dir := range []string{"tmp", "containers/half", "layers/" + strings.Repeat("a", 64)} {
		if left, _ := os.ReadDir(filepath.Join(root, dir)); len(left) != 0 {
			t.Errorf("%s still has %v", dir, left)
		}
	}
}

// Shows which images may go, and in which order: least recently used first, and none that is young, pinned or in use.
func TestCandidates(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	images := []Image{
		{ID: "young", LastUsed: now.Add(-time.Minute)},
		{ID: "old", LastUsed: now.Add(-time.Hour)},
		{ID: "older", LastUsed: now.Add(-48 * time.Hour)},
		{ID: "pinned", LastUsed: now.Add(-72 * time.Hour), Pinned: true},
		{ID: "used", LastUsed: now.Add(-72 * time.Hour)},
	}
	got := candidates(images, now, GCPolicy{MinAge: 2 * time.Minute, MaxAge: 24 * time.Hour, InUse: func(id string) bool { return id == "used" }})
	if len(got) != 2 || got[0] != (candidate{"older", true}) || got[1] != (candidate{"old", false}) {
		t.Errorf("candidates %+v", got)
	}
}

// Shows that collection at a watermark that is passed removes what is unused and keeps what is mounted, and says that it fell short.
func TestGC(t *testing.T) {
	reg, s := newRegistry(t, nil), openStore(t, Options{})
	for i := range 3 {
		ref := reg.push(t, fmt.Sprintf("app%d:1", i), newImage(t, v1.Config{}, newLayer(t, "", file("a", fmt.Sprint(i)))))
		if _, err := s.Pull(t.Context(), ref, PullOptions{}); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			if _, err := s.Mount(t.Context(), ref, "c"); err != nil {
				t.Fatal(err)
			}
		}
	}
	later := time.Now().Add(time.Hour)
	if r, err := s.GC(t.Context(), later, GCPolicy{HighPercent: 101, LowPercent: 100}); err != nil || len(r.Removed) != 0 {
		t.Errorf("below the watermark: %+v, %v", r, err)
	}
	r, err := s.GC(t.Context(), later, GCPolicy{HighPercent: 0, LowPercent: -1})
	if err != nil || len(r.Removed) != 2 || !r.Short || len(s.List()) != 1 {
		t.Errorf("%+v, %v; %d images left", r, err, len(s.List()))
	}
}
