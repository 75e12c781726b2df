package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

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
	fd := -1
	if f, ok := s.in.(*os.File); ok {
		fd = int(f.Fd())
	}
	if tty && (!stdin || fd < 0 || !term.IsTerminal(fd)) {
		fmt.Fprintln(s.err, "Unable to use a TTY - input is not a terminal or the right kind of file")
		tty = false
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := nodev1.NewNodeServiceClient(s.server.Conn()).Exec(ctx)
	if err != nil {
		return client.FromGRPC(ctx, err)
	}
	start := &nodev1.ExecRequest_Start{Ref: ref, Command: command, Stdin: stdin, Tty: tty}
	sender := &execSender{stream: stream}
	if tty {
		start.Size = size(fd)
		old, err := term.MakeRaw(fd)
		if err != nil {
			return fmt.Errorf("put the terminal into raw mode: %w", err)
		}
		defer term.Restore(fd, old)
		go sender.resize(ctx, fd)
	}
	if err := sender.send(&nodev1.ExecRequest{Request: &nodev1.ExecRequest_Start_{Start: start}}); err != nil {
		return execResult(ctx, s, stream)
	}
	if stdin {
		go sender.copy(s.in)
	}
	return execResult(ctx, s, stream)
}

// execResult prints output until the command ends, and turns its exit code into kctl's.
func execResult(ctx context.Context, s *session, stream nodev1.NodeService_ExecClient) error {
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return errors.New("the connection ended before the command did")
		}
		if err != nil {
			return client.FromGRPC(ctx, err)
		}
		switch r := resp.Response.(type) {
		case *nodev1.ExecResponse_Stdout:
			_, err = s.out.Write(r.Stdout)
		case *nodev1.ExecResponse_Stderr:
			_, err = s.err.Write(r.Stderr)
		case *nodev1.ExecResponse_Exit:
			if r.Exit.Code == 0 {
				return nil
			}
			return &exitError{code: int(r.Exit.Code), msg: fmt.Sprintf("command terminated with exit code %d", r.Exit.Code)}
		}
		if err != nil {
			return err
		}
	}
}

func size(fd int) *nodev1.TerminalSize {
	w, h, err := term.GetSize(fd)
	if err != nil {
		return nil
	}
	return &nodev1.TerminalSize{Width: uint32(w), Height: uint32(h)}
}

// execSender lets standard input and the terminal's size share the stream, which takes one sender at a time.
type execSender struct {
	mu     sync.Mutex
	stream nodev1.NodeService_ExecClient
}

func (e *execSender) send(r *nodev1.ExecRequest) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stream.Send(r)
}

func (e *execSender) copy(in io.Reader) {
	buf := make([]byte, ioChunk)
	for {
		n, err := in.Read(buf)
		if n > 0 && e.send(&nodev1.ExecRequest{Request: &nodev1.ExecRequest_Stdin{Stdin: append([]byte(nil), buf[:n]...)}}) != nil {
			return
		}
		if err != nil {
			_ = e.send(&nodev1.ExecRequest{Request: &nodev1.ExecRequest_StdinClosed{StdinClosed: true}})
			return
		}
	}
}

func (e *execSender) resize(ctx context.Context, fd int) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	defer signal.Stop(changed)
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			if sz := size(fd); sz != nil && e.send(&nodev1.ExecRequest{Request: &nodev1.ExecRequest_Resize{Resize: sz}}) != nil {
				return
			}
		}
	}
}
