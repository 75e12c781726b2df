package manifest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/dirwatch"
	"bareboat.dev/kubelet/dirwatch/dirwatchtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// state is what Watch last told.
func state(pods []*corev1.Pod, bad []Problem) string {
	var words []string
	for _, p := range pods {
		words = append(words, p.Name+"="+p.Spec.Containers[0].Image)
	}
	for _, b := range bad {
		words = append(words, "bad:"+filepath.Base(b.File))
	}
	return strings.Join(words, " ")
}

func manifestOf(name, image string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s}, spec: {containers: [{name: c, image: %q}]}}", name, image)
}

// TestWatch shows a directory's life: files come, change, turn bad and good again, are renamed and go; so does the
// directory, and comes back.
func TestWatch(t *testing.T) { live(t) }

// TestWatchWithoutInotify shows that it is the same where inotify is used up, and that this is said.
func TestWatchWithoutInotify(t *testing.T) {
	if dirwatchtest.Exhausted(t) {
		if said := live(t); !strings.Contains(said, "fs.inotify.max_user_instances") {
			t.Errorf("it said %q", said)
		}
	}
}

// live goes through a directory's life and returns what was logged.
func live(t *testing.T) string {
	var said bytes.Buffer
	watches := dirwatch.New(slog.New(slog.NewTextHandler(&said, nil)))
	dir := filepath.Join(t.TempDir(), "manifests")
	told := make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Watch(ctx, watches, dir, "n", func(pods []*corev1.Pod, bad []Problem) { told <- state(pods, bad) })
	}()
	await := func(want string) {
		t.Helper()
		var got []string
		for {
			select {
			case s := <-told:
				if s == want {
					return
				}
				got = append(got, s)
			case <-t.Context().Done():
				t.Fatalf("told %q, want %q", got, want)
			}
		}
	}
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	await("")
	write(".hidden", "nonsense")
	must(os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	write("a.yaml", manifestOf("a", "one"))
	await("a-n=one")
	write("a.yaml", manifestOf("a", "two"))
	await("a-n=two")
	write("b.json", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"b"},"spec":{"containers":[{"name":"c","image":"i"}]}}`)
	await("a-n=two b-n=i")
	write("a.yaml", "spec: {")
	await("a-n=two b-n=i bad:a.yaml") // its last good pod stays
	write("c.yaml", manifestOf("b", "j"))
	await("a-n=two b-n=i bad:c.yaml") // the name is taken, and a.yaml has been told of
	must(os.Rename(filepath.Join(dir, "b.json"), filepath.Join(dir, "z")))
	await("a-n=two b-n=j bad:z")
	write("a.yaml", manifestOf("a", "three"))
	must(os.Remove(filepath.Join(dir, "c.yaml")))
	await("a-n=three b-n=i")
	must(os.RemoveAll(dir))
	must(os.Mkdir(dir, 0o700))
	write("d.yaml", manifestOf("d", "i"))
	await("d-n=i")
	cancel()
	must(<-ended)
	return said.String()
}
