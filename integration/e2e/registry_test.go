package e2e

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"bareboat.dev/integration/host"
	"bareboat.dev/integration/imagebuild"
)

// TestPullFromRegistry shows pods whose images come from a registry: by tag and by digest, with a pull secret of the pod and one
// of its service account, again after the registry has gone, and each way in which a pull can fail, as Kubernetes words it.
func TestPullFromRegistry(t *testing.T) {
	h := up(t, "pull")
	reg := &ociRegistry{h: h, user: "sailor", password: "rum", images: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	reg.start(t)
	digest := reg.push(t, "open/shell:v1", "private/shell:v1", "private/other:v1")
	accounts(h, "default")
	create(t, h, pullSecret("puller", reg.user, reg.password), pullSecret("wrong", reg.user, "water"))
	done := func(pod string) {
		t.Helper()
		h.Must("kctl", "wait", "pod/"+pod, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s")
	}
	t.Run("ByTagAndDigest", func(t *testing.T) {
		create(t, h, pulled{name: "tag", image: "open/shell:v1"}.manifest(), pulled{name: "digest", image: "open/shell@" + digest}.manifest())
		done("tag")
		done("digest")
		if id := h.Must("kctl", "get", "pod", "tag", "-o", "jsonpath={.status.containerStatuses[0].imageID}"); !strings.Contains(id, digest) {
			t.Errorf("imageID is %s; want the digest %s", id, digest)
		}
		if events := h.Must("kctl", "events"); !strings.Contains(events, "Successfully pulled image") {
			t.Errorf("no event tells of the pull:\n%s", events)
		}
	})
	t.Run("Secrets", func(t *testing.T) {
		create(t, h, pulled{name: "secret", image: "private/shell:v1", secret: "puller"}.manifest())
		done("secret")
		h.Must("kctl", "patch", "serviceaccount", "default", "-p", `{"imagePullSecrets":[{"name":"puller"}]}`)
		create(t, h, pulled{name: "account", image: "private/other:v1"}.manifest())
		done("account")
		h.Must("kctl", "patch", "serviceaccount", "default", "-p", `{"imagePullSecrets":null}`)
	})
	t.Run("Refused", func(t *testing.T) {
		create(t, h, pulled{name: "unknown", image: "open/nothing:v1"}.manifest(), pulled{name: "denied", image: "private/shell:v1", secret: "wrong", policy: "Always"}.manifest(),
			pulled{name: "stranger", image: "private/shell:v1"}.manifest(), pulled{name: "guesser", image: "private/shell:v1", policy: "Never"}.manifest(),
			pulled{name: "never", image: "open/never:v1", policy: "Never"}.manifest(), pulled{name: "misspelt", image: "Not//A:Name"}.manifest())
		waiting(h, "unknown", "ImagePullBackOff", `Back-off pulling image "`+registryAddr+`/open/nothing:v1"`, "NAME_UNKNOWN")
		waiting(h, "denied", "ImagePullBackOff", "401 Unauthorized")
		// What others' secrets have brought is not for everybody.
		waiting(h, "stranger", "ImagePullBackOff", "401 Unauthorized")
		waiting(h, "guesser", "ErrImageNeverPull", "is not present with pull policy of Never")
		waiting(h, "never", "ErrImageNeverPull", `Container image "`+registryAddr+`/open/never:v1" is not present with pull policy of Never`)
		waiting(h, "misspelt", "InvalidImageName", `Failed to apply default image tag "`+registryAddr+`/Not//A:Name": couldn't parse image name "`+registryAddr+`/Not//A:Name": invalid reference format`)
	})
	t.Run("RegistryGone", func(t *testing.T) {
		reg.stop(t)
		create(t, h, pulled{name: "present", image: "open/shell:v1"}.manifest(), pulled{name: "own", image: "private/shell:v1", secret: "puller"}.manifest(), pulled{name: "always", image: "open/shell:v1", policy: "Always"}.manifest())
		done("present")
		done("own")
		waiting(h, "always", "ImagePullBackOff", "connection refused")
		reg.start(t)
		done("always")
	})
}

// registryAddr is a loopback address, with which runtimes speak plain HTTP.
const registryAddr = "127.0.0.1:5000"

// ociRegistry is a registry on a host whose repositories under private/ need a password.
type ociRegistry struct {
	h              *host.Host
	user, password string
	images         http.Handler
	server         *http.Server
}

func (r *ociRegistry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	user, password, _ := req.BasicAuth()
	known := user == r.user && password == r.password
	// At /v2/ clients learn how to log in.
	if req.URL.Path == "/v2/" || strings.HasPrefix(req.URL.Path, "/v2/private/") && !known {
		w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	r.images.ServeHTTP(w, req)
}

func (r *ociRegistry) start(t *testing.T) {
	t.Helper()
	l, err := r.h.Listen(registryAddr)
	if err != nil {
		t.Fatal(err)
	}
	r.server = &http.Server{Handler: r}
	go func(s *http.Server) { _ = s.Serve(l) }(r.server)
	t.Cleanup(func() { _ = r.server.Close() })
}

func (r *ociRegistry) stop(t *testing.T) {
	t.Helper()
	if err := r.server.Close(); err != nil {
		t.Fatal(err)
	}
}

// push puts one image that holds a shell into each repository and returns its digest.
func (r *ociRegistry) push(t *testing.T, refs ...string) string {
	t.Helper()
	img := shellImage(t)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = func(ctx context.Context, _, addr string) (net.Conn, error) { return r.h.Dial(ctx, addr) }
	for _, ref := range refs {
		tag, err := name.NewTag(registryAddr + "/" + ref)
		if err != nil {
			t.Fatal(err)
		}
		auth := &authn.Basic{Username: r.user, Password: r.password}
		if err := remote.Write(tag, img, remote.WithTransport(transport), remote.WithAuth(auth)); err != nil {
			t.Fatal(err)
		}
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

func shellImage(t *testing.T) v1.Image {
	t.Helper()
	img, err := imagebuild.Build(imagebuild.Spec{Name: "shell", Binaries: map[string]string{"/bin/sh": "/bin/busybox"}}, "", "")
	if err != nil {
		t.Fatalf("%v; install the package busybox-static", err)
	}
	return img
}

// pulled is a pod that says a word and ends.
type pulled struct{ name, image, secret, policy string }

func (p pulled) manifest() string {
	secrets, policy := "[]", "IfNotPresent"
	if p.secret != "" {
		secrets = "[{name: " + p.secret + "}]"
	}
	if p.policy != "" {
		policy = p.policy
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  restartPolicy: Never
  imagePullSecrets: %s
  containers: [{name: c, image: "%s/%s", imagePullPolicy: %s, command: [/bin/sh, -c, "echo aboard"]}]
`, p.name, secrets, registryAddr, p.image, policy)
}

func pullSecret(name, user, password string) string {
	login := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	return fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: %s}
type: kubernetes.io/dockerconfigjson
stringData: {.dockerconfigjson: '{"auths":{"%s":{"auth":"%s"}}}'}
`, name, registryAddr, login)
}

func create(t *testing.T, h *host.Host, manifests ...string) {
	t.Helper()
	if out, err := h.Input(strings.Join(manifests, "---\n"), "kctl", "create", "-f", "-"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// waiting waits for a container to wait for a reason, with a message that has each of the parts.
func waiting(h *host.Host, pod, reason string, parts ...string) {
	h.Eventually(pod+" waiting with "+reason, func() error {
		out, err := h.Run("kctl", "get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[0].state.waiting.reason}: {.status.containerStatuses[0].state.waiting.message}")
		if err != nil {
			return err
		}
		if !strings.HasPrefix(out, reason+": ") {
			return fmt.Errorf("it waits with %s", out)
		}
		for _, part := range parts {
			if !strings.Contains(out, part) {
				return fmt.Errorf("%q is missing in %s", part, out)
			}
		}
		return nil
	})
}
