package cli

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// TestEdit shows that an edit is stored, and that one without a change, or an emptied one, is not.
func TestEdit(t *testing.T) {
	m := newModel(t)
	m.must("create", "cm", "c", "--from-literal=k=old")
	for editor, want := range map[string]string{
		"true":              "Edit cancelled",
		"truncate -s0":      "Edit cancelled",
		"sed -i s/old/new/": "configmap/c edited",
		"false":             `the editor "false" failed`,
	} {
		t.Setenv("KUBE_EDITOR", editor)
		out, errOut, _ := m.run("", "edit", "cm/c")
		if !strings.Contains(out+errOut, want) {
			t.Errorf("%s: %q %q, want %q", editor, out, errOut, want)
		}
		if editor == "sed -i s/old/new/" {
			if got := m.must("get", "cm/c", "-o", "jsonpath={.data.k}"); got != "new" {
				t.Errorf("stored is %q", got)
			}
		}
	}
}

// TestReplace shows that a file's object takes the place of what is there, and that there must be something.
func TestReplace(t *testing.T) {
	m := newModel(t)
	if _, errOut, code := m.run(twoMaps, "replace", "-f", "-"); code != 1 || strings.Count(errOut, "NotFound") != 2 {
		t.Errorf("replace of nothing: %q", errOut)
	}
	m.must("create", "cm", "a", "--from-literal=old=1")
	m.must("create", "cm", "b")
	if out, errOut, code := m.run(twoMaps, "replace", "-f", "-"); code != 0 || out != "configmap/a replaced\nconfigmap/b replaced\n" {
		t.Errorf("replace: %q %q", out, errOut)
	}
	if got := m.must("get", "cm/a", "-o", "jsonpath={.data.old}{.metadata.labels.app}"); got != "x" {
		t.Errorf("what was replaced has %q", got)
	}
	if out, errOut, code := m.run(twoMaps, "replace", "--force", "-f", "-"); code != 0 || strings.Count(out, "created") != 2 {
		t.Errorf("replace --force: %q %q", out, errOut)
	}
}

// TestSet shows images and variables of a workload changed by name.
func TestSet(t *testing.T) {
	m := newModel(t)
	m.must("create", "deployment", "web", "--image=team/web:1")
	m.must("set", "image", "deploy/web", "web=team/web:2")
	m.must("set", "env", "deploy/web", "A=1", "B=2")
	m.must("set", "env", "deploy/web", "A-", "B=3")
	got := m.must("get", "deploy/web", "-o", "jsonpath={.spec.template.spec.containers[0].image} {.spec.template.spec.containers[0].env}")
	if got != `team/web:2 [{"name":"B","value":"3"}]` {
		t.Errorf("the container has %s", got)
	}
	if _, errOut, code := m.run("", "set", "image", "deploy/web", "db=x"); code != 1 || !strings.Contains(errOut, `unable to find container named "db"`) {
		t.Errorf("unknown container: %q", errOut)
	}
}

// TestCompletion shows that a tab offers types, names, and names after a slash.
func TestCompletion(t *testing.T) {
	m := newModel(t)
	m.must("create", "cm", "motd")
	for args, want := range map[string]string{"get |": "configmaps", "get cm |": "motd", "describe cm/|": "cm/motd", "explain |": "deployments", "autoscale |": "deployments"} {
		typed, _, _ := strings.Cut(args, "|")
		words := strings.Fields(typed)
		if strings.HasSuffix(typed, " ") {
			words = append(words, "")
		}
		out, _, _ := m.run("", append([]string{"__complete"}, words...)...)
		if !strings.Contains("\n"+out, "\n"+want+"\n") {
			t.Errorf("%s offers %q, want %q", args, out, want)
		}
	}
}

// TestConfig shows that the kubeconfig's keys are not printed and that choosing a context keeps what kctl does not know.
func TestConfig(t *testing.T) {
	m := newModel(t)
	path := filepath.Join(t.TempDir(), "config")
	text := "current-context: a\ncontexts:\n- {name: a, context: {cluster: c}}\n- {name: b, context: {cluster: c}}\nusers:\n- {name: u, user: {token: secret, client-key-data: c2VjcmV0}}\nextra: kept\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", path)
	if out := m.must("config", "view"); strings.Contains(out, "secret") || strings.Contains(out, "c2VjcmV0") || !strings.Contains(out, "extra: kept") {
		t.Errorf("view prints %s", out)
	}
	m.must("config", "use-context", "b")
	if out := m.must("config", "current-context"); out != "b\n" {
		t.Errorf("current-context is %q", out)
	}
	if _, errOut, code := m.run("", "config", "use-context", "z"); code != 1 || !strings.Contains(errOut, "there are: a, b") {
		t.Errorf("unknown context: %q", errOut)
	}
	data, _ := os.ReadFile(path)
	if info, _ := os.Stat(path); !strings.Contains(string(data), "extra: kept") || !strings.Contains(string(data), "token: secret") || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has become %s", data)
	}
}

// TestTarThereAndBack shows that a folder arrives as it was sent.
func TestTarThereAndBack(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	if err := os.MkdirAll(filepath.Join(from, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(from, "sub", "f"), []byte("text"), 0o640); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := writeTar(&archive, from, "name"); err != nil {
		t.Fatal(err)
	}
	if err := readTar(&archive, "name", to, func(what string) { t.Errorf("skipped %s", what) }); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(to, "sub", "f")); err != nil || string(data) != "text" {
		t.Errorf("arrived: %q, %v", data, err)
	}
}

// TestTarFromAHostileContainer shows that no entry is written outside the destination, and no link at all.
func TestTarFromAHostileContainer(t *testing.T) {
	dir := t.TempDir()
	var archive bytes.Buffer
	tw := tar.NewWriter(&archive)
	for _, h := range []tar.Header{
		{Name: "../evil", Typeflag: tar.TypeReg}, {Name: "/abs", Typeflag: tar.TypeReg}, {Name: "name/../../evil", Typeflag: tar.TypeReg},
		{Name: "name/link", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, {Name: "name/good", Typeflag: tar.TypeReg},
	} {
		h.Mode = 0o644
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	skipped := 0
	if err := readTar(&archive, "name", filepath.Join(dir, "in", "name"), func(string) { skipped++ }); err != nil {
		t.Fatal(err)
	}
	var files []string
	_ = filepath.WalkDir(dir, func(p string, d os.DirEntry, _ error) error {
		if !d.IsDir() {
			files = append(files, strings.TrimPrefix(p, dir))
		}
		return nil
	})
	if strings.Join(files, " ") != "/in/name/good" || skipped != 4 {
		t.Errorf("%d skipped, written: %v", skipped, files)
	}
}

// TestCores shows CPU use between two samples, and none for a container that started again in between.
func TestCores(t *testing.T) {
	at := func(second, used int64) *nodev1.ContainerStats {
		return &nodev1.ContainerStats{Time: timestamppb.New(time.Unix(second, 0)), CpuUsageCoreNanoseconds: uint64(used)}
	}
	if got := cores(at(10, 1e9), at(12, 2e9)); got != 0.5 {
		t.Errorf("cores = %v, want 0.5", got)
	}
	if got := cores(at(10, 5e9), at(12, 1e9)); got != 0 {
		t.Errorf("after a restart cores = %v", got)
	}
	if got := cores(nil, at(12, 1e9)); got != 0 {
		t.Errorf("without a first sample cores = %v", got)
	}
}

// TestConfigEntries shows that contexts, clusters and users are listed, renamed and removed, and the rest of the file stays.
func TestConfigEntries(t *testing.T) {
	m := newModel(t)
	path := filepath.Join(t.TempDir(), "config")
	text := "current-context: a\nclusters:\n- {name: c, cluster: {server: https://c}}\ncontexts:\n- {name: a, context: {cluster: c}}\n- {name: b, context: {cluster: c}}\nusers:\n- {name: u, user: {token: secret}}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", path)
	for _, step := range []struct{ args, want string }{
		{"get-clusters", "NAME\nc\n"},
		{"get-users", "NAME\nu\n"},
		{"rename-context a b", "error: cannot rename the context \"a\", the context \"b\" already exists in " + path + "\n"},
		{"rename-context z y", "error: cannot rename the context \"z\", it's not in " + path + "; there are: a, b\n"},
		{"rename-context a x", "Context \"a\" renamed to \"x\".\n"},
		{"current-context", "x\n"},
		{"delete-context b", "deleted context b from " + path + "\n"},
		{"delete-context b", "error: cannot delete context b, not in " + path + "\n"},
		{"delete-user u", "deleted user u from " + path + "\n"},
		{"get-users", "NAME\n"},
	} {
		if out, errOut, _ := m.run("", append([]string{"config"}, strings.Fields(step.args)...)...); out+errOut != step.want {
			t.Errorf("kctl config %s: %q, want %q", step.args, out+errOut, step.want)
		}
	}
}
