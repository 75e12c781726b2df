package cli

import (
	"context"

	"github.com/spf13/cobra"

	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

func (s *session) attachCommand() *cobra.Command {
	var container string
	var stdin, tty bool
	c := &cobra.Command{
		Use: "attach (POD | TYPE/NAME) [-c CONTAINER] [-i] [-t]", Short: "Join a running container's own streams", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			pod, err := s.onePod(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return s.attach(cmd.Context(), &nodev1.ContainerRef{Namespace: s.namespace, Pod: pod, Container: container}, stdin, tty)
		},
	}
	c.Flags().StringVarP(&container, "container", "c", "", "`name` of the container; default the pod's first")
	c.Flags().BoolVarP(&stdin, "stdin", "i", false, "pass standard input on; the container must have stdin: true")
	c.Flags().BoolVarP(&tty, "tty", "t", false, "use this terminal as the container's; it must have tty: true")
	return c
}

func (s *session) attach(ctx context.Context, ref *nodev1.ContainerRef, stdin, tty bool) error {
	open := func(ctx context.Context, tty bool, size *nodev1.TerminalSize) (remote, error) {
		stream, err := nodev1.NewNodeServiceClient(s.server.Conn()).Attach(ctx)
		if err != nil {
			return nil, err
		}
		start := &nodev1.AttachRequest_Start{Ref: ref, Stdin: stdin, Tty: tty, Size: size}
		return attachRemote{stream}, stream.Send(&nodev1.AttachRequest{Request: &nodev1.AttachRequest_Start_{Start: start}})
	}
	return s.interact(ctx, open, stdin, tty)
}
