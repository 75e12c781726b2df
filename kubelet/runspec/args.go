package runspec

import (
	"errors"
	"strings"

	"bareboat.dev/kubelet/image"
	corev1 "k8s.io/api/core/v1"
)

// ErrNoCommand: neither the container nor its image says what to run.
var ErrNoCommand = errors.New("no command specified")

// Args is the command line: the container's command and args where given, with $(NAME) expanded, the image's otherwise.
func Args(c *corev1.Container, img image.Config, env []string) ([]string, error) {
	values := map[string]string{}
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		values[name] = value
	}
	lookup := func(name string) (string, bool) { v, ok := values[name]; return v, ok }
	expand := func(in []string) (out []string) {
		for _, s := range in {
			out = append(out, Expand(s, lookup))
		}
		return out
	}
	command, args := expand(c.Command), expand(c.Args)
	if len(command) == 0 {
		command = img.Entrypoint
		if len(args) == 0 {
			args = img.Cmd
		}
	}
	line := append(append([]string{}, command...), args...)
	if len(line) == 0 {
		return nil, ErrNoCommand
	}
	return line, nil
}

// MergeEnv lays the pod's variables over the image's. A container whose image sets no PATH gets the usual one.
func MergeEnv(img []string, pod []string, hostname string) []string {
	e := &environment{values: map[string]string{}}
	e.set("PATH", defaultPath)
	if hostname != "" {
		e.set("HOSTNAME", hostname)
	}
	for _, list := range [][]string{img, pod} {
		for _, v := range list {
			if name, value, ok := strings.Cut(v, "="); ok {
				e.set(name, value)
			}
		}
	}
	return e.list()
}

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
