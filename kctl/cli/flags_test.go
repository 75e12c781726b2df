package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// Flags of kubectl's that say more than a command's arguments do: each row is a command and what it prints.
func TestMoreFlags(t *testing.T) {
	m := newModel(t)
	file := filepath.Join(t.TempDir(), "web.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {app: web}}\nspec: {containers: [{name: c, image: i}]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.must("create", "-f", file)
	m.must("create", "configmap", "m")
	for _, step := range []struct {
		args []string
		out  string
	}{
		{[]string{"patch", "-f", file, "-p", `{"metadata":{"labels":{"tier":"db"}}}`}, "pod/web patched\n"},
		{[]string{"label", "pods", "-A", "-l", "tier=db", "a=b"}, "pod/web labeled\n"},
		{[]string{"label", "pods", "--field-selector", "metadata.name=web", "c=d"}, "pod/web labeled\n"},
		{[]string{"get", "pods,cm", "--show-managed-fields", "--template", "{{range .items}}{{.metadata.name}} {{end}}"}, "web m "},
		{[]string{"expose", "-f", file, "--port=80", "--external-ip=192.0.2.1", "--labels=x=y", "--selector=app=other", "--dry-run=client", "-o", "jsonpath={.metadata.labels} {.spec.selector} {.spec.externalIPs}"}, `{"x":"y"} {"app":"other"} ["192.0.2.1"]`},
		{[]string{"run", "p", "--image=i", "--annotations=a=b", "--privileged", `--overrides={"spec":{"hostname":"h"}}`, "--dry-run=client", "-o", "jsonpath={.metadata.name} {.metadata.annotations.a} {.spec.hostname} {.spec.containers[0].securityContext.privileged}"}, "p b h true"},
	} {
		if out := m.must(step.args...); out != step.out {
			t.Errorf("%v: %q, want %q", step.args, out, step.out)
		}
	}
	if _, errOut, code := m.run("", "label", "cm/m", "a=b", "--resource-version=1"); code != 1 || errOut == "" {
		t.Errorf("another version was labelled: %q", errOut)
	}
	for _, args := range [][]string{{"label", "pods", "-A", "a=b"}, {"label", "pods/web", "--field-selector=x=y", "a=b"}, {"run", "p", "--image=i", "--overrides={", "--dry-run=client"}, {"get", "pods", "--subresource=status"}} {
		if _, _, code := m.run("", args...); code != 1 {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
}

// What a selector found and is gone meanwhile is no failure to delete; what was named is.
func TestDeleteWhatIsGone(t *testing.T) {
	m := newModel(t)
	m.must("create", "configmap", "m")
	m.server.Fail(func(method string, r *apiv1.ResourceRef) error {
		if strings.HasSuffix(method, "Delete") {
			return status.Error(codes.NotFound, "gone")
		}
		return nil
	})
	if _, errOut, code := m.run("", "delete", "cm", "--all"); code != 0 {
		t.Errorf("--all: exit code %d: %s", code, errOut)
	}
	for _, args := range [][]string{{"delete", "cm", "m"}, {"delete", "cm", "--all", "--ignore-not-found=false"}} {
		if _, _, code := m.run("", args...); code != 1 {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
}

// A token ends with an object only if that is named in full.
func TestBoundObject(t *testing.T) {
	if got, err := boundObject("", "", ""); got != nil || err != nil {
		t.Errorf("%v %v", got, err)
	}
	if got, err := boundObject("Node", "n", "u"); err != nil || got["kind"] != "Node" || got["apiVersion"] != "v1" || got["name"] != "n" || got["uid"] != "u" {
		t.Errorf("%v %v", got, err)
	}
	for _, bad := range [][3]string{{"", "n", ""}, {"Pod", "", ""}, {"Service", "s", ""}} {
		if _, err := boundObject(bad[0], bad[1], bad[2]); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}

// A dump is a list for each resource and a log for each pod, in files if a folder is named; a log that cannot be read says why.
func TestClusterDump(t *testing.T) {
	m := newModel(t)
	m.must("run", "web", "--image=i")
	dir := t.TempDir()
	if out := m.must("cluster-info", "dump", "--output-directory", dir, "-o", "yaml"); out != "Cluster info dumped to "+dir+"\n" {
		t.Errorf("%q", out)
	}
	for name, want := range map[string]string{
		"nodes.yaml": "kind: List", "default/pods.yaml": "name: web", "default/deployments.yaml": "kind: List", "kube-system/pods.yaml": "items: []",
		"default/web/logs.txt": "==== START logs for container web of pod default/web ====\nFailed to get logs: ",
	} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%s: %v %q", name, err, data)
		}
	}
	if out := m.must("cluster-info", "dump"); !strings.Contains(out, `"name": "web"`) || !strings.Contains(out, "==== END logs for container web") {
		t.Errorf("%q", out)
	}
}
