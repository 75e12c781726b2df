package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/rand"

	"bareboat.dev/kctl/api"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// debugOptions are the flags of debug.
type debugOptions struct {
	image, container, target, pullPolicy string
	profile                              string
	copy                                 copyOptions
	env                                  []string
	stdin, tty, attach, argsOnly, quiet  bool
}

func (s *session) debugCommand() *cobra.Command {
	var o debugOptions
	c := &cobra.Command{
		Use: "debug (POD | TYPE/NAME | node/NAME) --image=IMAGE [-it] [--target=CONTAINER | --copy-to=POD] [-- COMMAND ARG…]", Short: "Look into a running pod or a node with a container of another image",
		Long: `Add an ephemeral container to a running pod: it shares the pod's network and, with --target, that container's processes. It stays
listed in the pod until the pod goes, and is never started again.

With --copy-to the pod stays as it is, and a copy of it is made, without labels and probes: with another image or command, or one
more container. For node/NAME a pod on that node sees the node's processes and network, and its files in /host.`,
		Example: `  kctl debug web-0 -it --image=docker.io/library/busybox --target=web -- sh
  kctl debug web-0 -it --copy-to=web-debug --container=web -- sh
  kctl debug node/host-1 -it --image=docker.io/library/busybox`,
		RunE: func(cmd *cobra.Command, args []string) error {
			command := args
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				command, args = args[dash:], args[:dash]
			} else {
				command = nil
			}
			if len(args) != 1 {
				return errors.New("name one pod to debug; the command of the container comes after --")
			}
			return s.debug(cmd.Context(), o, args[0], command)
		},
	}
	f := c.Flags()
	f.StringVar(&o.image, "image", "", "`image` of the container")
	f.StringVarP(&o.container, "container", "c", "", "`name` of the new container; default debugger- and five letters")
	f.StringVar(&o.target, "target", "", "`name` of the container whose processes to see")
	f.StringVar(&o.pullPolicy, "image-pull-policy", "", "Always, IfNotPresent or Never")
	f.StringArrayVar(&o.env, "env", nil, "`NAME=VALUE` in the container's environment")
	f.BoolVarP(&o.stdin, "stdin", "i", false, "keep standard input open and attach to it")
	f.BoolVarP(&o.tty, "tty", "t", false, "give the container a terminal")
	f.BoolVar(&o.attach, "attach", false, "wait until the container runs and attach to it; with -i always")
	f.BoolVar(&o.argsOnly, "arguments-only", false, "what follows -- is the arguments of the image's own command")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "say nothing but what the container says")
	f.StringVar(&o.profile, "profile", "general", "what the container may do: general, baseline, restricted, netadmin or sysadmin")
	o.copy.register(f)
	return c
}

func (s *session) debug(ctx context.Context, o debugOptions, arg string, command []string) error {
	server, err := s.connect()
	if err != nil {
		return err
	}
	if node, isNode := cutAny(arg, "node/", "nodes/", "no/"); isNode {
		return s.debugNode(ctx, o, node, command)
	}
	name, err := s.onePod(ctx, arg)
	switch {
	case err != nil:
		return err
	case o.copy.name != "":
		return s.debugCopy(ctx, o, name, command)
	case o.image == "":
		return errors.New("you must specify --image when not using --copy-to")
	}
	infos, err := server.Resolve(ctx, "pods")
	if err != nil {
		return err
	}
	t := target{infos[0], s.namespace, name}
	if o.container == "" {
		o.container = "debugger-" + rand.String(5)
		if !o.quiet {
			fmt.Fprintf(s.err, "Defaulting debug container name to %s.\n", o.container)
		}
	}
	container, err := debugContainer(o, command)
	if err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"ephemeralContainers": []any{container}}})
	if err != nil {
		return err
	}
	ref := api.Ref(t.info, t.namespace, t.name)
	ref.Subresource = "ephemeralcontainers"
	if _, err := server.Patch(ctx, &apiv1.PatchRequest{Ref: ref, Type: apiv1.PatchRequest_TYPE_STRATEGIC_MERGE, Patch: patch, Options: &apiv1.WriteOptions{FieldManager: fieldManager}}); err != nil {
		return err
	}
	if !o.attach && !o.stdin {
		return nil
	}
	return s.attachDebugger(ctx, o, t)
}

// debugContainer is the ephemeral container that the flags describe.
func debugContainer(o debugOptions, command []string) (map[string]any, error) {
	c := map[string]any{"name": o.container, "image": o.image, "terminationMessagePolicy": string(corev1.TerminationMessageReadFile)}
	for field, value := range map[string]string{"targetContainerName": o.target, "imagePullPolicy": o.pullPolicy} {
		if value != "" {
			c[field] = value
		}
	}
	security, err := o.profileFields()
	if err != nil {
		return nil, err
	}
	if security != nil {
		c["securityContext"] = security
	}
	env, err := envList(o.env)
	if err != nil {
		return nil, err
	}
	if len(env) > 0 {
		c["env"] = env
	}
	if len(command) > 0 {
		c[map[bool]string{true: "args", false: "command"}[o.argsOnly]] = anyList(command)
	}
	if o.stdin {
		c["stdin"] = true
	}
	if o.tty {
		c["tty"] = true
	}
	return c, nil
}

// attachDebugger waits until the container runs, or has, and joins its streams or prints what it wrote.
func (s *session) attachDebugger(ctx context.Context, o debugOptions, t target) error {
	var state corev1.ContainerState
	told := ""
	err := s.follow(ctx, t, func(u *unstructured.Unstructured) error {
		var err error
		if state, err = startedState(u.Object, o.container); err != nil {
			return err
		}
		if w := state.Waiting; w != nil && w.Message != "" && w.Message != told {
			told = w.Message
			fmt.Fprintf(s.err, "Warning: container %s: %s\n", o.container, w.Message)
		}
		if state.Running != nil || state.Terminated != nil {
			return errStarted
		}
		return nil
	})
	if !errors.Is(err, errStarted) {
		return err
	}
	if state.Running != nil {
		err := s.attach(ctx, &nodev1.ContainerRef{Namespace: t.namespace, Pod: t.name, Container: o.container}, o.stdin, o.tty)
		if !apierrors.IsConflict(err) {
			return err
		}
	}
	return s.logs(ctx, logOptions{tail: -1, container: o.container}, []string{t.name})
}
