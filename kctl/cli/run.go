package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"bareboat.dev/client"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// runOptions are the flags of run.
type runOptions struct {
	image, restart, labels, pullPolicy  string
	overrides                           string
	env, annotations                    []string
	port                                int64
	command, stdin, tty, remove, attach bool
	privileged, leaveOpen               bool
}

func (s *session) runCommand() *cobra.Command {
	var o runOptions
	var w writeFlags
	c := &cobra.Command{
		Use:     "run NAME --image=IMAGE [-- ARG…]",
		Short:   "Run one pod",
		Example: "  kctl run shell --image=docker.io/library/busybox -it --rm --restart=Never -- sh",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || cmd.ArgsLenAtDash() == 0 {
				return errors.New("NAME is required for run")
			}
			if dash := cmd.ArgsLenAtDash(); dash > 1 || dash < 0 && len(args) > 1 {
				return fmt.Errorf("unexpected %q; arguments of the container come after --", args[1])
			}
			return s.runPod(cmd.Context(), w, o, args[0], args[1:])
		},
	}
	f := c.Flags()
	f.StringVar(&o.image, "image", "", "`image` to run")
	f.StringVar(&o.restart, "restart", "Always", "Always, OnFailure or Never")
	f.StringVar(&o.pullPolicy, "image-pull-policy", "", "Always, IfNotPresent or Never")
	f.StringVarP(&o.labels, "labels", "l", "", "`labels`, e.g. app=web,tier=db; default run=NAME")
	f.StringArrayVar(&o.env, "env", nil, "`NAME=VALUE` in the container's environment")
	f.Int64Var(&o.port, "port", 0, "port that the container listens on")
	f.BoolVar(&o.command, "command", false, "what follows -- is the command, not its arguments")
	f.BoolVarP(&o.stdin, "stdin", "i", false, "keep standard input open and attach to it")
	f.BoolVarP(&o.tty, "tty", "t", false, "give the container a terminal")
	f.BoolVar(&o.attach, "attach", false, "wait until the pod runs and attach to it; with -i always")
	f.BoolVar(&o.remove, "rm", false, "delete the pod when attaching ends")
	f.StringVar(&o.overrides, "overrides", "", "`JSON` that is merged into the pod (a merge patch)")
	f.StringArrayVar(&o.annotations, "annotations", nil, "`NAME=VALUE` of the pod's annotations")
	f.BoolVar(&o.privileged, "privileged", false, "let the container do everything that the host's root can")
	f.BoolVar(&o.leaveOpen, "leave-stdin-open", false, "with -i, keep the container's standard input open after the first attaching")
	f.BoolP("quiet", "q", false, "accepted for kubectl's sake: there is no prompt to explain")
	w.writing.register(f)
	w.validate = "strict"
	_ = c.MarkFlagRequired("image")
	return c
}

func (s *session) runPod(ctx context.Context, w writeFlags, o runOptions, name string, args []string) error {
	o.attach = o.attach || o.stdin
	if o.remove && !o.attach {
		return errors.New("--rm should only be used for attached containers; add -i or --attach")
	}
	content, err := podObject(o, name, args)
	if err != nil {
		return err
	}
	if err := s.createObject(ctx, w, &unstructured.Unstructured{Object: content}, name, "created"); err != nil || !o.attach || w.dry != dryNone {
		return err
	}
	if o.remove {
		defer s.removePod(context.WithoutCancel(ctx), name)
	}
	running, err := s.waitStarted(ctx, name)
	if err != nil {
		return err
	}
	if running {
		err := s.attach(ctx, &nodev1.ContainerRef{Namespace: s.namespace, Pod: name, Container: name}, o.stdin, o.tty)
		if !apierrors.IsConflict(err) {
			return err
		}
	}
	return s.finished(ctx, name)
}

// finished prints what a pod wrote that was quicker than its attaching, and returns its exit code as an error.
func (s *session) finished(ctx context.Context, name string) error {
	if err := s.logs(ctx, logOptions{tail: -1, follow: true}, []string{name}); err != nil {
		return err
	}
	pod, err := client.Of(s.server.Client, client.Pods()).Get(ctx, s.namespace, name)
	if err != nil {
		return err
	}
	for _, c := range pod.Status.ContainerStatuses {
		if t := c.State.Terminated; t != nil && t.ExitCode != 0 {
			return &exitError{code: int(t.ExitCode), msg: fmt.Sprintf("command terminated with exit code %d", t.ExitCode)}
		}
	}
	return nil
}

func podObject(o runOptions, name string, args []string) (map[string]any, error) {
	labels := map[string]any{"run": name}
	if o.labels != "" {
		labels = map[string]any{}
		for pair := range strings.SplitSeq(o.labels, ",") {
			k, v, ok := strings.Cut(pair, "=")
			if !ok || k == "" {
				return nil, fmt.Errorf("--labels: %q is not key=value", pair)
			}
			labels[k] = v
		}
	}
	container := map[string]any{"name": name, "image": o.image}
	if len(args) > 0 {
		key := "args"
		if o.command {
			key = "command"
		}
		container[key] = anyList(args)
	}
	env, err := envList(o.env)
	if err != nil {
		return nil, err
	}
	if len(env) > 0 {
		container["env"] = env
	}
	if o.port > 0 {
		container["ports"] = []any{map[string]any{"containerPort": o.port}}
	}
	if o.pullPolicy != "" {
		container["imagePullPolicy"] = o.pullPolicy
	}
	if o.stdin {
		container["stdin"], container["stdinOnce"] = true, !o.leaveOpen
	}
	if o.tty {
		container["tty"] = true
	}
	pod := object("v1", "Pod")
	if o.privileged {
		container["securityContext"] = map[string]any{"privileged": true}
	}
	meta := map[string]any{"name": name, "labels": labels}
	notes := map[string]any{}
	for _, pair := range o.annotations {
		k, v, ok := strings.Cut(pair, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("--annotations: %q is not NAME=VALUE", pair)
		}
		notes[k] = v
	}
	if len(notes) > 0 {
		meta["annotations"] = notes
	}
	pod["metadata"] = meta
	pod["spec"] = map[string]any{"containers": []any{container}, "restartPolicy": o.restart}
	return overridden(pod, o.overrides)
}

// overridden is an object with a merge patch applied to it.
func overridden(object map[string]any, patch string) (map[string]any, error) {
	if patch == "" {
		return object, nil
	}
	before, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	after, err := jsonpatch.MergePatch(before, []byte(patch))
	if err != nil {
		return nil, fmt.Errorf("--overrides: %w", err)
	}
	out := &unstructured.Unstructured{}
	if err := out.UnmarshalJSON(after); err != nil {
		return nil, fmt.Errorf("--overrides: %w", err)
	}
	return out.Object, nil
}

func anyList(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

func envList(pairs []string) ([]any, error) {
	var out []any
	for _, pair := range pairs {
		k, v, ok := strings.Cut(pair, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("--env: %q is not NAME=VALUE", pair)
		}
		out = append(out, map[string]any{"name": k, "value": v})
	}
	return out, nil
}

// errStarted ends the follower.
var errStarted = errors.New("started")

// waitStarted waits until the pod's container runs, or has run: then running is false.
func (s *session) waitStarted(ctx context.Context, name string) (running bool, err error) {
	infos, err := s.server.Resolve(ctx, "pods")
	if err != nil {
		return false, err
	}
	err = s.follow(ctx, target{infos[0], s.namespace, name}, func(u *unstructured.Unstructured) error {
		phase, _, _ := unstructured.NestedString(u.Object, "status", "phase")
		switch corev1.PodPhase(phase) {
		case corev1.PodRunning:
			running = true
			return errStarted
		case corev1.PodSucceeded, corev1.PodFailed:
			return errStarted
		}
		return nil
	})
	if errors.Is(err, errStarted) {
		err = nil
	}
	return running, err
}

func (s *session) removePod(ctx context.Context, name string) {
	if err := client.Of(s.server.Client, client.Pods()).Delete(ctx, s.namespace, name, client.DeleteOptions{}); err != nil {
		fmt.Fprintln(s.err, describeError(s, err))
		return
	}
	fmt.Fprintf(s.out, "pod %q deleted from %s namespace\n", name, s.namespace)
}
