package cli

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"bareboat.dev/client"
	"bareboat.dev/kctl/output"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

func (s *session) apiResourcesCommand() *cobra.Command {
	var format, group string
	var namespaced, noHeaders bool
	var verbs []string
	c := &cobra.Command{
		Use: "api-resources", Short: "List what the server serves", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			infos, err := s.infos(cmd.Context())
			if err != nil {
				return err
			}
			tw := tabwriter.NewWriter(s.out, 0, 8, 3, ' ', 0)
			if !noHeaders && format != "name" {
				fmt.Fprint(tw, "NAME\tSHORTNAMES\tAPIVERSION\tNAMESPACED\tKIND")
				if format == "wide" {
					fmt.Fprint(tw, "\tVERBS\tCATEGORIES")
				}
				fmt.Fprintln(tw)
			}
			for _, i := range infos {
				if cmd.Flags().Changed("api-group") && i.Group != group || cmd.Flags().Changed("namespaced") && i.Namespaced != namespaced || !hasAll(i.Verbs, verbs) {
					continue
				}
				s.printResource(tw, i, format)
			}
			return tw.Flush()
		},
	}
	c.Flags().StringVarP(&format, "output", "o", "", "wide or name")
	c.Flags().StringVar(&group, "api-group", "", "only this API `group`")
	c.Flags().BoolVar(&namespaced, "namespaced", true, "only namespaced, or with =false only cluster-scoped, ones")
	c.Flags().BoolVar(&noHeaders, "no-headers", false, "leave the headers out")
	c.Flags().StringSliceVar(&verbs, "verbs", nil, "only what supports these `verbs`")
	return c
}

// infos is what the server serves.
func (s *session) infos(ctx context.Context) ([]*apiv1.ResourceInfo, error) {
	server, err := s.connect()
	if err != nil {
		return nil, err
	}
	return server.Infos(ctx)
}

func hasAll(have, want []string) bool {
	for _, w := range want {
		if !strings.Contains(" "+strings.Join(have, " ")+" ", " "+w+" ") {
			return false
		}
	}
	return true
}

func (s *session) printResource(tw *tabwriter.Writer, i *apiv1.ResourceInfo, format string) {
	if format == "name" {
		name := i.Resource
		if i.Group != "" {
			name += "." + i.Group
		}
		fmt.Fprintln(tw, name)
		return
	}
	fmt.Fprintf(tw, "%s\t%s\t%s\t%t\t%s", i.Resource, strings.Join(i.ShortNames, ","), groupVersion(i), i.Namespaced, i.Kind)
	if format == "wide" {
		fmt.Fprintf(tw, "\t%s\t%s", strings.Join(i.Verbs, ","), strings.Join(i.Categories, ","))
	}
	fmt.Fprintln(tw)
}

func groupVersion(i *apiv1.ResourceInfo) string {
	if i.Group == "" {
		return i.Version
	}
	return i.Group + "/" + i.Version
}

func (s *session) versionCommand() *cobra.Command {
	var clientOnly bool
	var format string
	c := &cobra.Command{
		Use: "version", Short: "Print kctl's and the server's version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "" {
				return s.printVersions(cmd.Context(), clientOnly, format)
			}
			fmt.Fprintf(s.out, "Client Version: %s (%s, %s/%s)\n", Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			if clientOnly {
				return nil
			}
			v, err := s.serverVersion(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintf(s.out, "Server Version: %s (%s, %s)\n", v.GitVersion, v.GoVersion, v.Platform)
			return nil
		},
	}
	c.Flags().BoolVar(&clientOnly, "client", false, "kctl's only")
	c.Flags().StringVarP(&format, "output", "o", "", "json or yaml")
	return c
}

func (s *session) serverVersion(ctx context.Context) (*apiv1.GetVersionResponse, error) {
	server, err := s.connect()
	if err != nil {
		return nil, err
	}
	v, err := apiv1.NewDiscoveryServiceClient(server.Conn()).GetVersion(ctx, &apiv1.GetVersionRequest{})
	return v, client.FromGRPC(ctx, err)
}

// printVersions prints the versions under kubectl's names.
func (s *session) printVersions(ctx context.Context, clientOnly bool, format string) error {
	if format != "json" && format != "yaml" {
		return errors.New(`--output must be 'yaml' or 'json'`)
	}
	about := map[string]any{"clientVersion": map[string]any{"gitVersion": Version, "goVersion": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}}
	if !clientOnly {
		v, err := s.serverVersion(ctx)
		if err != nil {
			return err
		}
		about["serverVersion"] = map[string]any{"gitVersion": v.GitVersion, "goVersion": v.GoVersion, "platform": v.Platform}
	}
	p, err := output.New(format, output.Options{})
	if err != nil {
		return err
	}
	return p.Print(s.out, &unstructured.Unstructured{Object: about})
}

func (s *session) printYAML(v any) error {
	data, err := yaml.Marshal(v)
	if err != nil {
		return err
	}
	_, err = s.out.Write(data)
	return err
}

func trimmed(s string) string { return strings.TrimSpace(s) }
