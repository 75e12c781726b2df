package runspec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"bareboat.dev/kubelet/image"
	corev1 "k8s.io/api/core/v1"
)

// UserName is the user to resolve in the image's own files: the security context's where it names one, the image's
// otherwise.
func UserName(p *corev1.Pod, c *corev1.Container, img image.Config) string {
	uid, gid := runAs(p, c)
	if uid == nil {
		name := img.User
		if gid != nil {
			user, _, _ := strings.Cut(name, ":")
			if user == "" {
				user = "0"
			}
			return user + ":" + strconv.FormatInt(*gid, 10)
		}
		return name
	}
	if gid == nil {
		return strconv.FormatInt(*uid, 10)
	}
	return fmt.Sprintf("%d:%d", *uid, *gid)
}

func runAs(p *corev1.Pod, c *corev1.Container) (uid, gid *int64) {
	if s := p.Spec.SecurityContext; s != nil {
		uid, gid = s.RunAsUser, s.RunAsGroup
	}
	if s := c.SecurityContext; s != nil {
		if s.RunAsUser != nil {
			uid = s.RunAsUser
		}
		if s.RunAsGroup != nil {
			gid = s.RunAsGroup
		}
	}
	return uid, gid
}

// VerifyNonRoot checks runAsNonRoot before anything is resolved in the image, where names prove nothing.
func VerifyNonRoot(p *corev1.Pod, c *corev1.Container, img image.Config) error {
	if !nonRoot(p, c) {
		return nil
	}
	where := fmt.Sprintf("(pod: %q, container: %s)", fmt.Sprintf("%s_%s(%s)", p.Name, p.Namespace, p.UID), c.Name)
	if uid, _ := runAs(p, c); uid != nil {
		if *uid == 0 {
			return configf("container's runAsUser breaks non-root policy %s", where)
		}
		return nil
	}
	user, _, _ := strings.Cut(img.User, ":")
	if user == "" {
		return configf("container has runAsNonRoot and image will run as root %s", where)
	}
	uid, err := strconv.ParseUint(user, 10, 31)
	switch {
	case err != nil:
		return configf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root %s", user, where)
	case uid == 0:
		return configf("container has runAsNonRoot and image will run as root %s", where)
	}
	return nil
}

func nonRoot(p *corev1.Pod, c *corev1.Container) bool {
	if s := c.SecurityContext; s != nil && s.RunAsNonRoot != nil {
		return *s.RunAsNonRoot
	}
	s := p.Spec.SecurityContext
	return s != nil && s.RunAsNonRoot != nil && *s.RunAsNonRoot
}

// Groups are the supplementary groups of the first process: its primary group (else a file that denies that group would
// admit it), the pod's, fsGroup, and the image's unless the pod says Strict.
func Groups(p *corev1.Pod, u image.User) []uint32 {
	s := p.Spec.SecurityContext
	groups := []uint32{u.GID}
	if s == nil || s.SupplementalGroupsPolicy == nil || *s.SupplementalGroupsPolicy != corev1.SupplementalGroupsPolicyStrict {
		groups = append(groups, u.Groups...)
	}
	if s != nil {
		for _, g := range s.SupplementalGroups {
			groups = append(groups, uint32(g))
		}
		if s.FSGroup != nil {
			groups = append(groups, uint32(*s.FSGroup))
		}
	}
	slices.Sort(groups)
	return slices.Compact(groups)
}
