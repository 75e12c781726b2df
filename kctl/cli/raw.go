package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"bareboat.dev/client/rest"
)

// getRaw prints what the server answers to a GET of a path, as it comes.
func (s *session) getRaw(ctx context.Context, o getOptions, args []string) error {
	switch {
	case len(args) > 0 || len(o.files) > 0:
		return errors.New("arguments may not be passed when --raw is specified")
	case o.watch || o.watchOnly || o.output != "" || o.labels != "" || o.fields != "":
		return errors.New("--raw takes no other flag: write what you want into the path, e.g. --raw '/api/v1/pods?labelSelector=app=web'")
	}
	if _, err := s.connect(); err != nil {
		return err
	}
	paths, err := rest.New(s.config)
	if err != nil {
		return err
	}
	defer paths.Close()
	body, err := paths.Get(ctx, o.raw)
	if err != nil {
		return err
	}
	_, err = s.out.Write(body)
	return err
}

func (s *session) apiVersionsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "api-versions", Short: "List the API versions that the server serves, as group/version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			infos, err := s.infos(cmd.Context())
			if err != nil {
				return err
			}
			var versions []string
			for _, i := range infos {
				versions = append(versions, groupVersion(i))
			}
			slices.Sort(versions)
			for _, v := range slices.Compact(versions) {
				fmt.Fprintln(s.out, v)
			}
			return nil
		},
	}
}

// clusterInfoCommand says where the control plane is, once it has answered.
func (s *session) clusterInfoCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "cluster-info", Short: "Print where the control plane answers", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := s.infos(cmd.Context()); err != nil { // an address at which nobody answers is not worth telling
				return err
			}
			paths, err := rest.New(s.config)
			if err != nil {
				return err
			}
			defer paths.Close()
			fmt.Fprintf(s.out, "Kubernetes control plane is running at %s\n", paths.Server())
			return nil
		},
	}
	c.AddCommand(s.clusterDumpCommand())
	return c
}
