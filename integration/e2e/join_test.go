package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"bareboat.dev/integration/host"
)

// joining is a bootstrap token and a kubeconfig that holds it.
const (
	joiningToken = `
apiVersion: v1
kind: Secret
metadata: {name: bootstrap-token-abcdef, namespace: kube-system}
type: bootstrap.kubernetes.io/token
stringData:
  token-id: abcdef
  token-secret: 0123456789abcdef
  usage-bootstrap-authentication: "true"
  auth-extra-groups: system:bootstrappers:bareboat:default-node-token
`
	joiningConfig = `
apiVersion: v1
kind: Config
current-context: join
clusters: [{name: c, cluster: {server: "https://127.0.0.1:6443", certificate-authority: /etc/bareboat/pki/ca.crt}}]
users: [{name: joiner, user: {token: abcdef.0123456789abcdef}}]
contexts: [{name: join, context: {cluster: c, user: joiner}}]
`
)

// TestNodeJoinsWithToken shows that a kubelet that has only a token asks for its certificate, that the controllers approve and sign
// the request, and that the certificate is a node's.
func TestNodeJoinsWithToken(t *testing.T) {
	h := up(t, "join")
	signing := "\nclusterSigningCertFile: /etc/bareboat/pki/ca.crt\nclusterSigningKeyFile: /etc/bareboat/pki/ca.key\n"
	const settings = "/etc/bareboat/controllermanager.yaml"
	if config := h.Must("cat", settings); !strings.Contains(config, "clusterSigningCertFile") {
		h.WriteFile(settings, config+signing)
		h.Must("kill", "-9", strings.TrimSpace(h.Must("pidof", "controllermanager")))
	}
	h.WriteFile("/tmp/token.yaml", joiningToken)
	h.Must("kctl", "apply", "-f", "/tmp/token.yaml")
	h.WriteFile("/tmp/join.conf", joiningConfig)
	p := h.Start("kubelet", "--config", "/etc/bareboat/kubelet.yaml", "--bootstrap-kubeconfig", "/tmp/join.conf", "--kubeconfig", "/tmp/joined/kubelet.conf",
		"--cert-dir", "/tmp/joined/pki", "--hostname-override", "joiner", "--port", "10251", "--healthz-port", "0", "--root-dir", "/tmp/joined/kubelet",
		"--image-store", "/tmp/joined/images", "--podshim", filepath.Join(host.Root(), "build", "bin", "podshim"))
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("--- the joining kubelet\n%s", p.Output())
		}
	})
	h.Eventually("the joined node's kubeconfig", func() error {
		_, err := h.Run("test", "-s", "/tmp/joined/kubelet.conf")
		if err != nil {
			out, _ := h.Run("kctl", "get", "csr")
			return fmt.Errorf("there is none; %s", out)
		}
		return nil
	})
	p.Kill()
	if out, err := h.Run("kctl", "--kubeconfig", "/tmp/joined/kubelet.conf", "auth", "whoami"); err != nil || !strings.Contains(out, "system:node:joiner") {
		t.Errorf("the new certificate is %s (%v)", out, err)
	}
}
