package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"bareboat.dev/client"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// ioChunk is how much standard input is sent at once: a page of typing, a fraction of gRPC's message limit.
const ioChunk = 32 << 10

func (s *session) execCommand() *cobra.Command {
	var container string
	var stdin, tty bool
	c := &cobra.Command{
		Use:     "exec (POD | TYPE/NAME) [-c CONTAINER] [-i] [-t] -- COMMAND [ARG…]",
		Short:   "Run a command in a container",
		Example: "  kctl exec -it deploy/web -- sh",
		RunE: func(cmd *cobra.Command, args []string) error {
			dash := cmd.ArgsLenAtDash()
			if len(args) < 2 || dash == 0 {
				return errors.New("you must specify a pod and, after --, at least one command for the container")
			}
			if dash > 1 {
				return fmt.Errorf("unexpected %q before --", args[1])
			}
			pod, err := s.onePod(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return s.exec(cmd.Context(), &nodev1.ContainerRef{Namespace: s.namespace, Pod: pod, Container: container}, args[1:], stdin, tty)
		},
	}
	c.Flags().StringVarP(&container, "container", "c", "", "`name` of the container; default the pod's first")
	c.Flags().BoolVarP(&stdin, "stdin", "i", false, "pass standard input on")
	c.Flags().BoolVarP(&tty, "tty", "t", false, "give the command a terminal")
	c.Flags().SetInterspersed(true)
	return c
}

// onePod finds the pod that an argument means: itself, or a running one of the workload.
func (s *session) onePod(ctx context.Context, arg string) (string, error) {
	sel, err := s.selectPods(ctx, arg, "")
	if err != nil || sel.name != "" {
		return sel.name, err
	}
	pods, _, err := client.Of(s.server.Client, client.Pods()).List(ctx, sel.namespace, client.ListOptions{LabelSelector: sel.labels, FieldSelector: "status.phase=Running"})
	if err != nil {
		return "", err
	}
	for _, p := range pods {
		if sel.matches(p) && p.DeletionTimestamp == nil {
			return p.Name, nil
		}
	}
	return "", fmt.Errorf("%s has no running pod; see `kctl why %s`", arg, arg)
}

func (s *session) exec(ctx context.Context, ref *nodev1.ContainerRef, command []string, stdin, tty bool) error {
	open := func(ctx context.Context, tty bool, size *nodev1.TerminalSize) (remote, error) {
		stream, err := nodev1.NewNodeServiceClient(s.server.Conn()).Exec(ctx)
		if err != nil {
			return nil, err
		}
		start := &nodev1.ExecRequest_Start{Ref: ref, Command: command, Stdin: stdin, Tty: tty, Size: size}
		return execRemote{stream}, stream.Send(&nodev1.ExecRequest{Request: &nodev1.ExecRequest_Start_{Start: start}})
	}
	return s.interact(ctx, open, stdin, tty)
}

func size(fd int) *nodev1.TerminalSize {
	w, h, err := term.GetSize(fd)
	if err != nil {
		return nil
	}
	return &nodev1.TerminalSize{Width: uint32(w), Height: uint32(h)}
}
