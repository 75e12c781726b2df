package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"bareboat.dev/client"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// archiveChunk is how much of an archive one message carries: large enough for full speed, a fraction of gRPC's 4 MiB limit.
const archiveChunk = 256 << 10

func (s *session) imageCommand() *cobra.Command {
	var node string
	c := &cobra.Command{Use: "image", Short: "Load, list and remove images on nodes"}
	c.PersistentFlags().StringVar(&node, "node", "", "only on this `node`; default every node")
	c.AddCommand(
		&cobra.Command{
			Use: "load FILE…", Short: "Import images from OCI or docker archives; - is standard input", Args: cobra.MinimumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return s.eachNode(cmd.Context(), node, func(node string) error {
					for _, file := range args {
						if err := s.loadImage(cmd.Context(), node, file); err != nil {
							return fmt.Errorf("%s: %w", file, err)
						}
					}
					return nil
				})
			},
		},
		&cobra.Command{
			Use: "list", Aliases: []string{"ls"}, Short: "List the nodes' images", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return s.listImages(cmd.Context(), node) },
		},
		&cobra.Command{
			Use: "rm IMAGE…", Short: "Remove images that no container uses", Args: cobra.MinimumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return s.eachNode(cmd.Context(), node, func(node string) error {
					for _, image := range args {
						_, err := s.nodes().RemoveImage(cmd.Context(), &nodev1.RemoveImageRequest{Node: node, Image: image})
						if err != nil {
							return client.FromGRPC(cmd.Context(), err)
						}
						fmt.Fprintf(s.out, "%s removed from node/%s\n", image, node)
					}
					return nil
				})
			},
		},
	)
	return c
}

func (s *session) nodes() nodev1.NodeServiceClient {
	return nodev1.NewNodeServiceClient(s.server.Conn())
}

// eachNode calls fn for the named node, or for every one.
func (s *session) eachNode(ctx context.Context, node string, fn func(node string) error) error {
	server, err := s.connect()
	if err != nil {
		return err
	}
	if node != "" {
		return fn(node)
	}
	nodes, _, err := client.Of(server.Client, client.Nodes()).List(ctx, "", client.ListOptions{})
	if err != nil {
		return err
	}
	if len(nodes) == 0 {
		return errors.New("the cluster has no nodes yet; see `kctl get nodes`")
	}
	var errs []error
	for _, n := range nodes {
		if err := fn(n.Name); err != nil {
			errs = append(errs, fmt.Errorf("node %s: %w", n.Name, err))
		}
	}
	return s.report(errs)
}

func (s *session) loadImage(ctx context.Context, node, file string) error {
	in := s.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	stream, err := s.nodes().LoadImage(ctx)
	if err != nil {
		return client.FromGRPC(ctx, err)
	}
	err = stream.Send(&nodev1.LoadImageRequest{Request: &nodev1.LoadImageRequest_Start_{Start: &nodev1.LoadImageRequest_Start{Node: node}}})
	buf := make([]byte, archiveChunk)
	for err == nil {
		var n int
		n, err = in.Read(buf)
		if n > 0 {
			// A failed Send means that the server has an error to tell, which CloseAndRecv returns.
			if stream.Send(&nodev1.LoadImageRequest{Request: &nodev1.LoadImageRequest_Data{Data: buf[:n]}}) != nil {
				err = io.EOF
			}
		}
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	resp, err := stream.CloseAndRecv()
	if err != nil {
		return client.FromGRPC(ctx, err)
	}
	for _, i := range resp.Images {
		for _, name := range append(i.Tags, untagged(i)...) {
			fmt.Fprintf(s.out, "%s loaded on node/%s\n", name, node)
		}
	}
	return nil
}

// untagged names an image without tags by its id.
func untagged(i *nodev1.Image) []string {
	if len(i.Tags) > 0 {
		return nil
	}
	return []string{i.Id}
}

func (s *session) listImages(ctx context.Context, node string) error {
	tw := tabwriter.NewWriter(s.out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(tw, "NODE\tIMAGE\tID\tSIZE\tLOADED")
	err := s.eachNode(ctx, node, func(node string) error {
		resp, err := s.nodes().ListImages(ctx, &nodev1.ListImagesRequest{Node: node})
		if err != nil {
			return client.FromGRPC(ctx, err)
		}
		for _, i := range resp.Images {
			for _, name := range append(i.Tags, untagged(i)...) {
				fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", node, name, shortID(i.Id), mebibytes(i.SizeBytes), age(i))
			}
		}
		return nil
	})
	return errors.Join(err, tw.Flush())
}

func shortID(id string) string {
	if len(id) > 19 {
		return id[7:19]
	}
	return id
}

func mebibytes(n uint64) string { return fmt.Sprintf("%.1fMiB", float64(n)/(1<<20)) }

func age(i *nodev1.Image) string {
	if i.Loaded == nil || i.Loaded.AsTime().Unix() <= 0 {
		return "<unknown>"
	}
	return duration.HumanDuration(time.Since(i.Loaded.AsTime()))
}
