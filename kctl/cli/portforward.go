package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/client"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

func (s *session) portForwardCommand() *cobra.Command {
	var addresses []string
	c := &cobra.Command{
		Use:     "port-forward (POD | TYPE/NAME) [LOCAL:]REMOTE…",
		Short:   "Reach a pod's port from here",
		Example: "  kctl port-forward svc/web 8080:80",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.portForward(cmd.Context(), args[0], args[1:], addresses)
		},
	}
	c.Flags().StringSliceVar(&addresses, "address", []string{"localhost"}, "`addresses` to listen on")
	return c
}

// forward is one local port and the pod's port behind it.
type forward struct{ local, remote string }

func (s *session) portForward(ctx context.Context, arg string, specs, addresses []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pod, err := s.onePod(ctx, arg)
	if err != nil {
		return err
	}
	forwards, err := s.forwards(ctx, arg, pod, specs)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, f := range forwards {
		for _, addr := range addresses {
			ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(addr, f.local))
			if err != nil {
				cancel()
				return fmt.Errorf("listen on %s: %w", net.JoinHostPort(addr, f.local), err)
			}
			fmt.Fprintf(s.out, "Forwarding from %s -> %s\n", ln.Addr(), f.remote)
			context.AfterFunc(ctx, func() { ln.Close() })
			wg.Go(func() { s.acceptForward(ctx, ln, pod, f) })
		}
	}
	<-ctx.Done()
	return nil
}

// forwards parses the ports. A service's port is turned into its target port, names are looked up.
func (s *session) forwards(ctx context.Context, arg, pod string, specs []string) ([]forward, error) {
	p, err := client.Of(s.server.Client, client.Pods()).Get(ctx, s.namespace, pod)
	if err != nil {
		return nil, err
	}
	var svc *corev1.Service
	if kind, name, _ := strings.Cut(arg, "/"); kind == "svc" || kind == "service" || kind == "services" {
		if svc, err = client.Of(s.server.Client, client.Services()).Get(ctx, s.namespace, name); err != nil {
			return nil, err
		}
	}
	var out []forward
	for _, spec := range specs {
		local, remote, ok := strings.Cut(spec, ":")
		if !ok {
			remote = local
		}
		number, err := remotePort(p, svc, remote)
		if err != nil {
			return nil, err
		}
		if !ok {
			local = number
			if svc != nil {
				local = remote
			}
		}
		if local == "" {
			local = "0"
		}
		if _, err := strconv.ParseUint(local, 10, 16); err != nil {
			return nil, fmt.Errorf("%q: the local port %q is not a number from 0 to 65535", spec, local)
		}
		out = append(out, forward{local, number})
	}
	return out, nil
}

func remotePort(pod *corev1.Pod, svc *corev1.Service, port string) (string, error) {
	if svc != nil {
		known := false
		for _, sp := range svc.Spec.Ports {
			if sp.Name == port || strconv.Itoa(int(sp.Port)) == port {
				port = sp.TargetPort.String()
				if port == "0" || port == "" {
					port = strconv.Itoa(int(sp.Port))
				}
				known = true
				break
			}
		}
		if !known {
			return "", fmt.Errorf("service %s has no port %q; see `kctl describe svc/%s`", svc.Name, port, svc.Name)
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err == nil && n > 0 {
		return port, nil
	}
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.Name == port {
				return strconv.Itoa(int(p.ContainerPort)), nil
			}
		}
	}
	return "", fmt.Errorf("pod %s has no port named %q", pod.Name, port)
}

func (s *session) acceptForward(ctx context.Context, ln net.Listener, pod string, f forward) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		fmt.Fprintf(s.out, "Handling connection for %s\n", f.local)
		wg.Go(func() {
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			if err := s.forwardOne(ctx, conn, pod, f.remote); err != nil && ctx.Err() == nil {
				fmt.Fprintf(s.err, "an error occurred forwarding %s -> %s: %v\n", f.local, f.remote, err)
			}
		})
	}
}

// forwardOne carries one connection in both directions until both sides have finished.
func (s *session) forwardOne(ctx context.Context, conn net.Conn, pod, remote string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	number, err := strconv.ParseUint(remote, 10, 16)
	if err != nil {
		return err
	}
	stream, err := nodev1.NewNodeServiceClient(s.server.Conn()).PortForward(ctx)
	if err != nil {
		return client.FromGRPC(ctx, err)
	}
	start := &nodev1.PortForwardRequest_Start{Namespace: s.namespace, Pod: pod, Port: uint32(number)}
	if err := stream.Send(&nodev1.PortForwardRequest{Request: &nodev1.PortForwardRequest_Start_{Start: start}}); err != nil {
		_, err = stream.Recv()
		return client.FromGRPC(ctx, err)
	}
	go func() {
		buf := make([]byte, ioChunk)
		for {
			n, err := conn.Read(buf)
			if n > 0 && stream.Send(&nodev1.PortForwardRequest{Request: &nodev1.PortForwardRequest_Data{Data: append([]byte(nil), buf[:n]...)}}) != nil {
				return
			}
			if err != nil {
				_ = stream.Send(&nodev1.PortForwardRequest{Request: &nodev1.PortForwardRequest_DataClosed{DataClosed: true}})
				_ = stream.CloseSend()
				return
			}
		}
	}()
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return client.FromGRPC(ctx, err)
		}
		if _, err := conn.Write(resp.Data); err != nil {
			return nil
		}
	}
}
