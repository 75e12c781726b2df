package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"bareboat.dev/client/rest"
	"bareboat.dev/kctl/api"
	"bareboat.dev/kctl/explain"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

func (s *session) explainCommand() *cobra.Command {
	var recursive bool
	var version string
	c := &cobra.Command{
		Use: "explain TYPE[.FIELD…]", Short: "Describe a kind or a field of it",
		Example: "  kctl explain pods.spec.containers\n  kctl explain deploy --recursive\n  kctl explain hpa --api-version=autoscaling/v2",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("you must specify one type of resource to explain; see `kctl api-resources` for what there is")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.explainKind(cmd.Context(), args[0], version, recursive)
		},
	}
	c.Flags().BoolVar(&recursive, "recursive", false, "list the fields' fields, too, by name and type only")
	c.Flags().StringVar(&version, "api-version", "", "`group/version` to describe; default the preferred one")
	return c
}

func (s *session) explainKind(ctx context.Context, what, version string, recursive bool) error {
	server, err := s.connect()
	if err != nil {
		return err
	}
	info, path, err := explained(ctx, server, what)
	if err != nil {
		return err
	}
	if version != "" {
		if info, err = inVersion(ctx, server, info, version); err != nil {
			return err
		}
	}
	documents, err := rest.New(s.config)
	if err != nil {
		return err
	}
	defer documents.Close()
	doc, err := openAPI(ctx, documents, groupVersion(info))
	if err != nil {
		return err
	}
	return explain.Write(s.out, doc, api.GVK(info), path, recursive)
}

// explained parts "pods.spec.containers", or "ingresses.networking.k8s.io.spec", into a resource and a path of fields: the longest
// beginning that names a resource does.
func explained(ctx context.Context, server *api.Server, what string) (*apiv1.ResourceInfo, []string, error) {
	parts := strings.Split(strings.Trim(what, "."), ".")
	for n := len(parts); n > 0; n-- {
		infos, err := server.Resolve(ctx, strings.Join(parts[:n], "."))
		var unknown *api.NoSuchResourceError
		switch {
		case err == nil && len(infos) == 1:
			return infos[0], parts[n:], nil
		case err != nil && !errors.As(err, &unknown):
			return nil, nil, err
		}
	}
	return nil, nil, &api.NoSuchResourceError{Word: parts[0]}
}

// inVersion finds the resource in another version of its API, or of the group that the version names.
func inVersion(ctx context.Context, server *api.Server, like *apiv1.ResourceInfo, version string) (*apiv1.ResourceInfo, error) {
	infos, err := server.Infos(ctx)
	if err != nil {
		return nil, err
	}
	for _, i := range infos {
		if i.Resource == like.Resource && groupVersion(i) == version {
			return i, nil
		}
	}
	return nil, fmt.Errorf("couldn't find resource %q in version %q", like.Resource, version)
}

// openAPI reads the document of one API version; the server's index says where it is.
func openAPI(ctx context.Context, documents *rest.Client, version string) (*explain.Document, error) {
	data, err := documents.Get(ctx, "/openapi/v3")
	if err != nil {
		return nil, err
	}
	var index struct {
		Paths map[string]struct {
			URL string `json:"serverRelativeURL"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("index of the OpenAPI documents: %w", err)
	}
	where := "apis/" + version
	if !strings.Contains(version, "/") {
		where = "api/" + version
	}
	if index.Paths[where].URL == "" {
		return nil, fmt.Errorf("the server publishes no OpenAPI document of %s", version)
	}
	if data, err = documents.Get(ctx, index.Paths[where].URL); err != nil {
		return nil, err
	}
	return explain.Parse(data)
}
