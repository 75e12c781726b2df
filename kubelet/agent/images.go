package agent

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/image"
	"bareboat.dev/kubelet/pod"
)

// ensureImage makes a container's image present, as its pull policy says.
func (w *worker) ensureImage(ctx context.Context, act pod.Action) func() {
	view := w.snapshot()
	c := findContainer(view.pod, act.Container)
	if c == nil {
		return nil
	}
	img, reason, err := w.a.obtain(ctx, view.pod, c)
	if err != nil && ctx.Err() != nil {
		return nil // given up, not failed
	}
	return func() {
		result := pod.Image{Attempt: act.Attempt}
		if err != nil {
			result.Failure = failure(w.seen.Images[act.Container].Failure, reason, err)
			delete(w.seen.Refused, act.Container) // what keeps it now is that
		} else {
			result.ID, result.Ref = img.ID, imageRef(img)
		}
		w.seen.Images[act.Container] = result
	}
}

// imageRef is what the API shows as imageID.
func imageRef(img image.Image) string {
	if len(img.RepoDigests) > 0 {
		return img.RepoDigests[0]
	}
	return img.ID
}

// obtain finds or pulls an image. The reason is that of the container's state if it fails.
func (a *Agent) obtain(ctx context.Context, p *corev1.Pod, c *corev1.Container) (img image.Image, reason string, err error) {
	if _, err := image.Normalize(c.Image); err != nil {
		a.event(p, corev1.EventTypeWarning, "InspectFailed", c.Name, "Failed to apply default image tag %q: %v", c.Image, err)
		a.event(p, corev1.EventTypeWarning, "Failed", c.Name, "Error: InvalidImageName")
		return img, "InvalidImageName", fmt.Errorf("Failed to apply default image tag %q: %w", c.Image, err) //nolint:staticcheck // shown to users as upstream words it
	}
	policy := c.ImagePullPolicy
	if policy != corev1.PullAlways {
		img, err = a.Images.Get(c.Image)
		if err == nil && a.mayUse(ctx, p, c.Image) {
			a.event(p, corev1.EventTypeNormal, "Pulled", c.Name, "Container image %q already present on machine and can be accessed by the pod", c.Image)
			return img, "", nil
		}
		if policy == corev1.PullNever { // with the same words for an image that is here for others only, so that nobody learns of it
			message := fmt.Sprintf("Container image %q is not present with pull policy of Never", c.Image)
			a.event(p, corev1.EventTypeWarning, "ErrImageNeverPull", c.Name, "%s", message)
			a.event(p, corev1.EventTypeWarning, "Failed", c.Name, "Error: ErrImageNeverPull")
			return img, "ErrImageNeverPull", errors.New(message)
		}
	}
	return a.pull(ctx, p, c)
}

// mayUse tells whether a pod may use an image that is here without asking its registry. The pod's secrets are read only if it depends
// on them.
func (a *Agent) mayUse(ctx context.Context, p *corev1.Pod, ref string) bool {
	access, err := a.Images.Access(ref, nil)
	if err == nil && a.Verify.Requires(ref, access) && len(p.Spec.ImagePullSecrets) > 0 {
		access, err = a.Images.Access(ref, a.pullSecrets(ctx, p, ref))
	}
	return err == nil && !a.Verify.Requires(ref, access)
}

func (a *Agent) pull(ctx context.Context, p *corev1.Pod, c *corev1.Container) (image.Image, string, error) {
	a.event(p, corev1.EventTypeNormal, "Pulling", c.Name, "Pulling image %q", c.Image)
	began := time.Now()
	options := a.Pull
	options.Auth = a.pullSecrets(ctx, p, c.Image)
	img, err := a.Images.Pull(ctx, c.Image, options)
	if err != nil {
		if ctx.Err() == nil {
			a.event(p, corev1.EventTypeWarning, "Failed", c.Name, "Failed to pull image %q: %v", c.Image, err)
			a.event(p, corev1.EventTypeWarning, "Failed", c.Name, "Error: ErrImagePull")
			a.Log.Warn("image was not pulled", "pod", podKey(p), "image", c.Image, "error", err)
		}
		return img, "ErrImagePull", err
	}
	took := time.Since(began).Round(time.Millisecond)
	a.event(p, corev1.EventTypeNormal, "Pulled", c.Name, "Successfully pulled image %q in %s (%s including waiting). Image size: %d bytes.",
		c.Image, took, took, img.Size)
	return img, "", nil
}

// pullSecrets are the credentials for an image's registry from the pod's pull secrets.
func (a *Agent) pullSecrets(ctx context.Context, p *corev1.Pod, ref string) []image.Auth {
	full, err := image.Normalize(ref)
	if err != nil {
		return nil
	}
	var all []image.Auth
	for _, s := range p.Spec.ImagePullSecrets {
		secret, err := a.objects.Secret(ctx, p.Namespace, s.Name)
		if err != nil {
			a.event(p, corev1.EventTypeWarning, "FailedToRetrieveImagePullSecret", "",
				"Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", s.Name)
			continue
		}
		source := fmt.Sprintf("%s/%s/%s", secret.Namespace, secret.Name, secret.UID)
		for _, c := range credentials(secret, full) {
			c.Source = source
			all = append(all, c)
		}
	}
	return all
}

// dockerAuth is an entry of a docker configuration.
type dockerAuth struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// credentials are the entries of a pull secret that match an image, the most specific first.
func credentials(s *corev1.Secret, ref string) []image.Auth {
	entries := map[string]dockerAuth{}
	switch s.Type {
	case corev1.SecretTypeDockerConfigJson:
		var config struct {
			Auths map[string]dockerAuth `json:"auths"`
		}
		if json.Unmarshal(s.Data[corev1.DockerConfigJsonKey], &config) == nil {
			entries = config.Auths
		}
	case corev1.SecretTypeDockercfg:
		_ = json.Unmarshal(s.Data[corev1.DockerConfigKey], &entries)
	}
	var found []image.Auth
	var lengths []int
	for key, e := range entries {
		prefix, ok := matchRegistry(key, ref)
		if !ok {
			continue
		}
		i := len(found)
		for i > 0 && lengths[i-1] < prefix {
			i--
		}
		found = append(found[:i], append([]image.Auth{e.auth()}, found[i:]...)...)
		lengths = append(lengths[:i], append([]int{prefix}, lengths[i:]...)...)
	}
	return found
}

func (e dockerAuth) auth() image.Auth {
	a := image.Auth{Username: e.Username, Password: e.Password, IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken}
	if raw, err := base64.StdEncoding.DecodeString(e.Auth); err == nil && e.Auth != "" {
		if user, password, ok := strings.Cut(string(raw), ":"); ok {
			a.Username, a.Password = user, password
		}
	}
	return a
}

// matchRegistry says whether a key of a docker configuration is for an image, and how specific it is. Keys are hosts with
// an optional scheme and path; "*" stands for one label of the host.
func matchRegistry(key, ref string) (specificity int, ok bool) {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	key = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(key, "/"), "/v1"), "/v2")
	if key == "index.docker.io" || key == "registry-1.docker.io" {
		key = "docker.io"
	}
	keyHost, keyPath, _ := strings.Cut(key, "/")
	refHost, refPath, _ := strings.Cut(ref, "/")
	if !matchHost(keyHost, refHost) || keyPath != "" && refPath != keyPath && !strings.HasPrefix(refPath, keyPath+"/") &&
		!strings.HasPrefix(refPath, keyPath+":") && !strings.HasPrefix(refPath, keyPath+"@") {
		return 0, false
	}
	return len(key), true
}

func matchHost(pattern, host string) bool {
	want, have := strings.Split(pattern, "."), strings.Split(host, ".")
	if len(want) != len(have) {
		return false
	}
	for i := range want {
		if want[i] != "*" && want[i] != have[i] {
			return false
		}
	}
	return true
}
