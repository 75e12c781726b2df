package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A kubeconfig is made from nothing, changed and taken apart by commands alone, with kubectl's words.
func TestConfigCommands(t *testing.T) {
	dir := t.TempDir()
	path, ca := filepath.Join(dir, "sub", "config"), filepath.Join(dir, "ca.crt")
	if err := os.WriteFile(ca, []byte("CA"), 0o600); err != nil {
		t.Fatal(err)
	}
	kctl := func(args ...string) (string, string, int) {
		var out, errOut strings.Builder
		code := Run(t.Context(), append([]string{"--kubeconfig", path, "config"}, args...), strings.NewReader(""), &out, &errOut)
		return out.String(), errOut.String(), code
	}
	for _, step := range []struct {
		args, out, err string
		code           int
	}{
		{args: "set-cluster home.lan --server=https://10.0.0.1:6443 --certificate-authority=" + ca, out: "Cluster \"home.lan\" set.\n"},
		{args: "set-credentials me --token=secret", out: "User \"me\" set.\n"},
		{args: "set-context a --cluster=home.lan --user=me", out: "Context \"a\" created.\n"},
		{args: "set-context a --namespace=shop", out: "Context \"a\" modified.\n"},
		{args: "set-context b --cluster=none", out: "Context \"b\" created.\n"},
		{args: "use-context a", out: "Switched to context \"a\".\n"},
		{args: "get-contexts -o name", out: "a\nb\n"},
		{args: "get-contexts --no-headers a", out: "*   a   home.lan   me   shop\n"},
		{args: "get-contexts c", err: "error: context c not found\n", code: 1},
		{args: "set clusters.home.lan.tls-server-name api", out: "Property \"clusters.home.lan.tls-server-name\" set.\n"},
		{args: "view --minify -o jsonpath={.contexts[*].name}:{.clusters[0].cluster.tls-server-name}:{.users[0].user.token}", out: "a:api:REDACTED"},
		{args: "view --flatten --raw -o jsonpath={.clusters[0].cluster}", out: `{"certificate-authority-data":"Q0E=","server":"https://10.0.0.1:6443","tls-server-name":"api"}`},
		{args: "unset contexts.a.namespace", out: "Property \"contexts.a.namespace\" unset.\n"},
		{args: "unset contexts.b", out: "Property \"contexts.b\" unset.\n"},
		{args: "get-contexts --no-headers", out: "*   a   home.lan   me   \n"},
		{args: "delete-context b", err: "error: cannot delete context b, not in " + path + "\n", code: 1},
		{args: "unset current-context", out: "Property \"current-context\" unset.\n"},
		{args: "set nonsense.a b", err: "error: \"nonsense.a\" is no property: it begins with clusters, users, contexts or current-context\n", code: 1},
	} {
		if out, errOut, code := kctl(strings.Fields(step.args)...); out != step.out || errOut != step.err || code != step.code {
			t.Errorf("config %s: exit code %d, %q, %q", step.args, code, out, errOut)
		}
	}
}
