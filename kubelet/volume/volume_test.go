package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"bareboat.dev/kubelet/rmtree"
)

// world is what volumes are filled with.
type world struct {
	mu      sync.Mutex
	maps    map[string]map[string]string
	secrets map[string]map[string][]byte
	tokens  int
	now     time.Time
	// refused is what asking for a token fails with.
	refused error
}

func (w *world) ConfigMap(_ context.Context, _, name string) (*corev1.ConfigMap, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d, ok := w.maps[name]; ok {
		return &corev1.ConfigMap{Data: d}, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmap"}, name)
}

func (w *world) Secret(_ context.Context, _, name string) (*corev1.Secret, error) {
	if d, ok := w.secrets[name]; ok {
		return &corev1.Secret{Data: d}, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secret"}, name)
}

func (w *world) Token(context.Context, *corev1.Pod, *corev1.ServiceAccountTokenProjection) (Token, error) {
	if w.refused != nil {
		return Token{}, w.refused
	}
	w.tokens++
	return Token{Value: fmt.Sprint("token", w.tokens), Renew: w.now.Add(48 * time.Minute), Expires: w.now.Add(time.Hour)}, nil
}

func (w *world) Claim(context.Context, string, string) (*corev1.PersistentVolumeClaim, *corev1.PersistentVolume, error) {
	return nil, nil, fmt.Errorf("no claims here")
}

func setup(t *testing.T, spec string) (*Manager, *world, *corev1.Pod) {
	t.Helper()
	w := &world{
		maps:    map[string]map[string]string{"cm": {"a": "1", "b": "2"}},
		secrets: map[string]map[string][]byte{"sec": {"key": []byte("pw")}},
		now:     time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	p := &corev1.Pod{}
	p.Namespace, p.Name, p.UID, p.Labels = "ns", "web", "u1", map[string]string{"app": "web"}
	if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
		t.Fatal(err)
	}
	m := New(Config{Root: t.TempDir(), Sources: w, Allocatable: func() corev1.ResourceList { return nil }, Now: func() time.Time { return w.now }})
	t.Cleanup(func() {
		if err := m.RemovePodDir(p.UID); err != nil {
			t.Errorf("remove the pod's directory: %v", err)
		}
		if _, err := os.Stat(m.PodDir(p.UID)); !os.IsNotExist(err) {
			t.Errorf("the pod's directory is left: %v", err)
		}
	})
	return m, w, p
}

func mount(t *testing.T, m *Manager, p *corev1.Pod) {
	t.Helper()
	if err := m.Mount(context.Background(), p); err != nil {
		t.Fatal(err)
	}
}

// tree prints what a container sees of a volume: path, mode, owner and content.
func tree(t *testing.T, m *Manager, p *corev1.Pod, volume string) string {
	t.Helper()
	v, _ := FindVolume(p, volume)
	root, err := m.Path(context.Background(), p, v)
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(root, dataLink)
	var lines []string
	base, err := filepath.EvalSymlinks(data)
	if err != nil {
		t.Fatal(err)
	}
	_ = filepath.WalkDir(base, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(base, path)
		info, _ := os.Stat(filepath.Join(root, rel)) // through the visible links
		st := info.Sys().(*syscall.Stat_t)
		content, _ := os.ReadFile(path)
		lines = append(lines, fmt.Sprintf("%s %o %d:%d %s", rel, info.Mode().Perm(), st.Uid, st.Gid, content))
		return nil
	})
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestFileVolumes shows the files of each kind of volume that the kubelet writes: paths, modes, owners and contents.
func TestFileVolumes(t *testing.T) {
	for name, c := range map[string]struct{ volume, pod, want string }{
		"configMap":        {`configMap: {name: cm}`, ``, "a 644 0:0 1\nb 644 0:0 2"},
		"items":            {`configMap: {name: cm, items: [{key: b, path: x/y, mode: 0400}]}`, ``, "x/y 400 0:0 2"},
		"optional":         {`configMap: {name: none, optional: true}`, ``, ""},
		"secret":           {`secret: {secretName: sec, defaultMode: 0600}`, ``, "key 600 0:0 pw"},
		"fsGroup":          {`secret: {secretName: sec, defaultMode: 0400}`, `securityContext: {fsGroup: 77}`, "key 440 0:77 pw"},
		"downward":         {`downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}, {path: cpu, resourceFieldRef: {containerName: c, resource: requests.cpu, divisor: 1m}}]}`, ``, "cpu 644 0:0 250\nlabels 644 0:0 app=\"web\""},
		"projected":        {`projected: {defaultMode: 0440, sources: [{configMap: {name: cm, items: [{key: a, path: a}]}}, {secret: {name: sec}}, {serviceAccountToken: {path: token}}]}`, ``, "a 440 0:0 1\nkey 440 0:0 pw\ntoken 440 0:0 token1"},
		"token of a user":  {`projected: {sources: [{serviceAccountToken: {path: token}}]}`, `securityContext: {runAsUser: 33}`, "token 600 33:0 token1"},
		"token of a group": {`projected: {sources: [{serviceAccountToken: {path: token}}]}`, `securityContext: {fsGroup: 44}`, "token 640 0:44 token1"},
		"token of both":    {`projected: {sources: [{serviceAccountToken: {path: token}}]}`, `securityContext: {runAsUser: 33, fsGroup: 44}`, "token 640 33:44 token1"},
	} {
		t.Run(name, func(t *testing.T) {
			m, _, p := setup(t, "volumes: [{name: v, "+c.volume+"}]\ncontainers: [{name: c, resources: {requests: {cpu: 250m}}}]\n"+c.pod)
			mount(t, m, p)
			mount(t, m, p) // again changes nothing
			if got := tree(t, m, p, "v"); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// TestVolumeErrors shows what is said of volumes that cannot be made.
func TestVolumeErrors(t *testing.T) {
	for volume, want := range map[string]string{
		`configMap: {name: none}`:                                      `MountVolume.SetUp failed for volume "v" : configmap "none" not found`,
		`configMap: {name: cm, items: [{key: none, path: p}]}`:         `configmap references non-existent config key: none`,
		`secret: {secretName: sec, items: [{key: key, path: ../x}]}`:   `must be relative and stay within the volume`,
		`secret: {secretName: sec, items: [{key: key, path: ..data}]}`: `must be relative and stay within the volume`,
		`hostPath: {path: /etc/hosts, type: Directory}`:                `hostPath type check failed: /etc/hosts is not a directory`,
		`hostPath: {path: /no/such, type: File}`:                       `hostPath type check failed: /no/such is not a file`,
		`nfs: {server: s, path: /p}`:                                   `no volume plugin matched`,
	} {
		m, _, p := setup(t, "volumes: [{name: v, "+volume+"}]")
		if err := m.Mount(context.Background(), p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", volume, err, want)
		}
	}
}

// TestUpdateIsAtomic shows that a reader that follows the link sees one whole version at a time, never a mixture, while the
// ConfigMap changes again and again; and that keys that vanish vanish.
func TestUpdateIsAtomic(t *testing.T) {
	m, w, p := setup(t, `volumes: [{name: v, configMap: {name: cm}}]`)
	mount(t, m, p)
	root := m.dir(p.UID, pluginConfigMap, "v")
	stop, done := make(chan struct{}), make(chan string, 1)
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			dir, err := os.Open(filepath.Join(root, dataLink))
			if errors.Is(err, fs.ErrNotExist) {
				continue // the kernel had read the link when the version that it leads to was replaced and removed
			}
			if err != nil {
				done <- err.Error()
				return
			}
			a, errA := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/a", dir.Fd()))
			b, errB := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/b", dir.Fd()))
			_ = dir.Close()
			if errA == nil && errB == nil && string(a) != "1" && string(a) != string(b) {
				done <- fmt.Sprintf("a is %s while b is %s", a, b)
				return
			}
		}
	}()
	for i := range 50 {
		w.mu.Lock()
		w.maps["cm"] = map[string]string{"a": fmt.Sprint(i), "b": fmt.Sprint(i), "c": "x"}
		w.mu.Unlock()
		if _, err := m.Refresh(context.Background(), p); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if problem := <-done; problem != "" {
		t.Error(problem)
	}
	w.maps["cm"] = map[string]string{"a": "last"}
	if _, err := m.Refresh(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	var names []string
	entries, _ := os.ReadDir(root)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "..2") && !strings.HasPrefix(e.Name(), "..") {
			names = append(names, e.Name())
		}
	}
	if !slices.Equal(names, []string{"a"}) || len(entries) != 3 {
		t.Errorf("after the last update there are %v of %d entries", names, len(entries))
	}
}

// TestRefreshAfterUnmount shows that an update that waited while the volumes were removed does not make them anew: nobody would remove
// them, and a driver would have published a volume for a pod that is gone.
func TestRefreshAfterUnmount(t *testing.T) {
	m, _, p := setup(t, "volumes: [{name: v, configMap: {name: cm}}]")
	mount(t, m, p)
	waiting := m.state(p.UID)
	if err := m.Unmount(p.UID); err != nil {
		t.Fatal(err)
	}
	if _, err := m.refresh(t.Context(), waiting, p); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(m.dir(p.UID, pluginConfigMap, "v")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the volume is there again: %v", err)
	}
}

// TestOptionalSourceGoes shows that the files of an optional source go when it is deleted: all that a volume has, and those that come
// after what stays.
func TestOptionalSourceGoes(t *testing.T) {
	for sources, left := range map[string]string{
		`{configMap: {name: cm, optional: true}}`: "",
		`{configMap: {name: cm, optional: true}}, {downwardAPI: {items: [{path: "0", fieldRef: {fieldPath: metadata.name}}]}}`: "0 644 0:0 web",
	} {
		m, w, p := setup(t, "volumes: [{name: v, projected: {sources: ["+sources+"]}}]")
		mount(t, m, p)
		if before := tree(t, m, p, "v"); !strings.Contains(before, "a 644 0:0 1") {
			t.Fatalf("%s: the files were\n%s", sources, before)
		}
		delete(w.maps, "cm")
		if _, err := m.Refresh(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if got := tree(t, m, p, "v"); got != left {
			t.Errorf("%s: of a deleted ConfigMap are left\n%s\nwant\n%s", sources, got, left)
		}
		if _, err := os.Lstat(filepath.Join(m.dir(p.UID, pluginProjected, "v"), "a")); !os.IsNotExist(err) {
			t.Errorf("%s: its file is still to be seen: %v", sources, err)
		}
	}
}

// TestTokensThatCannotBeRenewed shows that a token which is still good stays while there is no other, and that it is asked for every now
// and then, not all the time; and that the end of the last one is an error.
func TestTokensThatCannotBeRenewed(t *testing.T) {
	m, w, p := setup(t, `volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t}}]}}]`)
	mount(t, m, p)
	w.now, w.refused = w.now.Add(50*time.Minute), errors.New("away")
	if again, err := m.Refresh(t.Context(), p); err != nil || !again.Equal(w.now.Add(renewRetry)) {
		t.Errorf("come again at %v, %v", again, err)
	}
	w.now = w.now.Add(10 * time.Minute)
	if _, err := m.Refresh(t.Context(), p); !errors.Is(err, w.refused) {
		t.Errorf("a token that has ended: %v", err)
	}
}

// TestTokensAreRenewed shows that a token stays until its time has come, and when to come again.
func TestTokensAreRenewed(t *testing.T) {
	m, w, p := setup(t, `volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: token}}]}}]`)
	mount(t, m, p)
	again, err := m.Refresh(context.Background(), p)
	if err != nil || !again.Equal(w.now.Add(48*time.Minute)) || w.tokens != 1 {
		t.Errorf("come again at %v, %v, after %d tokens", again, err, w.tokens)
	}
	w.now = again
	if _, err := m.Refresh(context.Background(), p); err != nil || w.tokens != 2 {
		t.Errorf("%v after %d tokens", err, w.tokens)
	}
}

// TestEmptyDirs shows the two media, the size limit, and the pod's group.
func TestEmptyDirs(t *testing.T) {
	m, _, p := setup(t, `
securityContext: {fsGroup: 55}
volumes: [{name: disk, emptyDir: {}}, {name: mem, emptyDir: {medium: Memory, sizeLimit: 64Ki}}]`)
	mount(t, m, p)
	for _, v := range []string{"disk", "mem"} {
		info, err := os.Stat(m.dir(p.UID, pluginEmptyDir, v))
		if err != nil || info.Sys().(*syscall.Stat_t).Gid != 55 || info.Mode()&fs.ModeSetgid == 0 || info.Mode().Perm() != 0o777 {
			t.Errorf("%s: %v, %v", v, info.Mode(), err)
		}
	}
	err := os.WriteFile(filepath.Join(m.dir(p.UID, pluginEmptyDir, "mem"), "big"), make([]byte, 128<<10), 0o600)
	if err == nil {
		t.Error("a memory volume took more than its limit")
	}
	if err := os.WriteFile(filepath.Join(m.dir(p.UID, pluginEmptyDir, "disk"), "f"), make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if u, err := m.EmptyDirUsage(p.UID); err != nil || u["disk"].Bytes < 64<<10 {
		t.Errorf("usage is %v, %v", u, err)
	}
}

// TestRemovalRefusesMounts shows that what is mounted below a volume is unmounted, not emptied: nothing is deleted through a
// mount, however the mount came there, and links are not followed.
func TestRemovalRefusesMounts(t *testing.T) {
	m, _, p := setup(t, `volumes: [{name: v, emptyDir: {}}]`)
	mount(t, m, p)
	precious := t.TempDir()
	if err := os.WriteFile(filepath.Join(precious, "keep"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := m.dir(p.UID, pluginEmptyDir, "v")
	for _, sub := range []string{"a", "a/b"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mount(precious, filepath.Join(dir, "a/b"), "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(precious, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer parent.Close()
	if err := rmtree.RemoveAt(int(parent.Fd()), "v", dir); !errors.Is(err, rmtree.ErrMounted) {
		t.Errorf("deleting with a mount in the way: %v", err)
	}
	if err := m.Unmount(p.UID); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(precious, "keep")); err != nil {
		t.Error("a file behind a mount was deleted")
	}
}

// TestSubPathOfFiles shows a container's restart with files by subPath: of a read-only file system, and a FIFO, which nobody writes to.
// What is mounted from the last start is neither written to nor waited for.
func TestSubPathOfFiles(t *testing.T) {
	m, _, p := setup(t, `volumes: [{name: v, emptyDir: {medium: Memory}}]`)
	mount(t, m, p)
	root := m.dir(p.UID, pluginEmptyDir, "v")
	if err := os.WriteFile(filepath.Join(root, "file"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(root, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"file", "fifo"} {
		for range 2 {
			target, err := m.SubPath(p.UID, "v", "c", i, root, name)
			if err != nil {
				t.Fatal(name, err)
			}
			if mounted, err := isMountPoint(target); err != nil || !mounted {
				t.Errorf("%s is not mounted: %v", name, err)
			}
		}
	}
}

// TestInterruptedUpdate shows that what a kubelet left that was killed in the middle of an update goes with the next look at the volume.
func TestInterruptedUpdate(t *testing.T) {
	m, _, p := setup(t, `volumes: [{name: v, configMap: {name: cm}}]`)
	mount(t, m, p)
	root := m.dir(p.UID, pluginConfigMap, "v")
	if err := os.Mkdir(filepath.Join(root, "..123"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..data/gone", filepath.Join(root, "gone")); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Refresh(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) != 4 { // ..data, what it leads to, a and b
		t.Errorf("%v are there, %v", entries, err)
	}
}

// TestSubPathIsConfined shows that a subPath never leads out of its volume, by links that lie there or that are swapped in
// while it is opened.
func TestSubPathIsConfined(t *testing.T) {
	m, _, p := setup(t, `volumes: [{name: v, emptyDir: {}}]`)
	mount(t, m, p)
	root := m.dir(p.UID, pluginEmptyDir, "v")
	if err := os.Symlink("/etc", filepath.Join(root, "out")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../../../../../../../etc", filepath.Join(root, "up")); err != nil {
		t.Fatal(err)
	}
	for i, sub := range []string{"new/dir", "out", "up", "out/ssh"} {
		target, err := m.SubPath(p.UID, "v", "c", i, root, sub)
		if err != nil {
			continue // refused is fine, too
		}
		if _, err := os.Stat(filepath.Join(target, "passwd")); err == nil {
			t.Errorf("subPath %q leads to the host's /etc", sub)
		}
	}
	for _, sub := range []string{"../x", "/etc", "a/../../x"} {
		if _, err := m.SubPath(p.UID, "v", "c", 9, root, sub); err == nil {
			t.Errorf("subPath %q was taken", sub)
		}
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			_ = os.Remove(filepath.Join(root, "race"))
			_ = os.Symlink("/etc", filepath.Join(root, "race"))
			_ = os.Remove(filepath.Join(root, "race"))
			_ = os.Mkdir(filepath.Join(root, "race"), 0o755)
		}
	}()
	for range 200 {
		target, err := m.SubPath(p.UID, "v", "c", 10, root, "race/ssl")
		if err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(target, "certs")); err == nil {
			t.Fatal("a link that was swapped in led to the host's /etc/ssl")
		}
	}
	close(stop)
	<-done
}
