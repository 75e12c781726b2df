package client

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const sample = `
apiVersion: v1
kind: Config
current-context: ha
clusters:
- name: one
  cluster: {server: "https://10.0.0.1:6443", certificate-authority: ca.crt}
- name: three
  cluster:
    server: https://vip:6443
    certificate-authority-data: Q0E=
    extensions:
    - name: other.example.com/thing
      extension: {provider: x}
    - name: bareboat.dev/endpoints
      extension: {endpoints: ["https://10.0.0.1:6443", "https://10.0.0.2:6443", "10.0.0.3"]}
users:
- name: admin
  user: {client-certificate-data: Q0VSVA==, client-key: keys/admin.key}
- name: plugin
  user: {exec: {command: get-token}}
contexts:
- name: ha
  context: {cluster: three, user: admin, namespace: shop}
- name: single
  context: {cluster: one, user: admin}
- name: exec
  context: {cluster: one, user: plugin}
- name: broken
  context: {cluster: nowhere, user: admin}
`

// Shows what a kubeconfig's contexts come to, with several servers by extension and paths relative to the file.
func TestLoadConfig(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config")
	if err := os.WriteFile(path, []byte(sample), 0o600); err != nil {
		t.Fatal(err)
	}
	ha, err := LoadConfig(path, "")
	want := &Config{
		Endpoints: []string{"https://10.0.0.1:6443", "https://10.0.0.2:6443", "10.0.0.3"}, CAData: []byte("CA"),
		CertData: []byte("CERT"), KeyFile: filepath.Join(dir, "keys/admin.key"), Namespace: "shop",
	}
	if err != nil || !reflect.DeepEqual(ha, want) {
		t.Errorf("context ha: %+v, %v", ha, err)
	}
	t.Setenv("KUBECONFIG", filepath.Join(dir, "missing")+":"+path)
	single, err := LoadConfig("", "single")
	if err != nil || single.Endpoints[0] != "https://10.0.0.1:6443" || single.CAFile != filepath.Join(dir, "ca.crt") {
		t.Errorf("context single: %+v, %v", single, err)
	}
	for context, message := range map[string]string{
		"exec": "only client certificates and bearer tokens", "broken": `cluster "nowhere"`, "none": `context "none" does not exist`,
	} {
		if _, err := LoadConfig(path, context); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("context %s: %v, want …%s…", context, err, message)
		}
	}
}

// Shows which spellings of an endpoint are understood, and that the others are refused with the reason.
func TestEndpointAddress(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.1": "10.0.0.1:6443", "10.0.0.1:1": "10.0.0.1:1", "https://h:6443": "h:6443", "https://h": "h:6443",
		"https://[::1]:7": "[::1]:7", "https://h/": "h:6443",
	} {
		if got, err := endpointAddress(in); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", ":6443", "https://", "https://h/path", "h:"} {
		if got, err := endpointAddress(in); err == nil {
			t.Errorf("%q: %q, want an error", in, got)
		}
	}
}
