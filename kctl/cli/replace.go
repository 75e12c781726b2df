package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/anypb"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/kctl/api"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

func (s *session) replaceCommand() *cobra.Command {
	var w writeFlags
	var force bool
	c := &cobra.Command{
		Use: "replace -f FILE…", Short: "Put whole objects in place of what is there", Args: cobra.NoArgs,
		Long: `Put whole objects in place of what is there. A file with a resourceVersion replaces only that version. With --force objects are
deleted and created anew, which fields that cannot change need.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.replace(cmd.Context(), w, force) },
	}
	w.register(c)
	c.Flags().BoolVar(&force, "force", false, "delete the objects, wait until they are gone, and create them anew")
	_ = c.MarkFlagRequired("filename")
	return c
}

func (s *session) replace(ctx context.Context, w writeFlags, force bool) error {
	opts, err := w.options()
	if err != nil {
		return err
	}
	docs, err := s.selected(ctx, w)
	errs := each(err)
	for _, d := range docs {
		replaceOne := s.replaceOne
		if force && w.dry == dryNone {
			replaceOne = s.recreate
		}
		if err := replaceOne(ctx, d, opts, w.writing); err != nil {
			errs = append(errs, aboutDocument(d, err))
		}
	}
	return s.report(errs)
}

func (s *session) replaceOne(ctx context.Context, d document, opts *apiv1.WriteOptions, w writing) error {
	if d.name() == "" {
		return errors.New("metadata.name: Required value: replace needs a name")
	}
	body, err := api.Body(d.ContentType, d.Data)
	if err != nil {
		return err
	}
	if w.dry == dryClient {
		return s.done(d.target, "replaced", w, body)
	}
	req := &apiv1.UpdateRequest{Ref: api.Ref(d.info, d.namespace, d.name()), Object: body, Options: opts}
	resp, err := s.server.Update(ctx, req)
	if needsVersion(err) {
		if req.Object, err = s.inNewestVersion(ctx, d, body); err != nil {
			return err
		}
		resp, err = s.server.Update(ctx, req)
	}
	if err != nil {
		return err
	}
	return s.done(d.target, "replaced", w, resp.Object)
}

// needsVersion reports whether a kind lets nobody replace an object without saying which version of it.
func needsVersion(err error) bool {
	return apierrors.IsInvalid(err) && slices.ContainsFunc(causes(err), func(c metav1.StatusCause) bool { return c.Field == "metadata.resourceVersion" })
}

// inNewestVersion is a file's object as a replacement of what is there now.
func (s *session) inNewestVersion(ctx context.Context, d document, body *anypb.Any) (*anypb.Any, error) {
	live, err := s.server.Get(ctx, d.info, d.namespace, d.name())
	if err != nil {
		return nil, err
	}
	u, err := api.Decode(d.info, body)
	if err != nil {
		return nil, err
	}
	if u.GetResourceVersion() != "" {
		return body, nil
	}
	u.SetResourceVersion(live.GetResourceVersion())
	return api.JSON(u)
}

// recreate deletes the object if it is there, waits until it is gone, and creates the file's.
func (s *session) recreate(ctx context.Context, d document, opts *apiv1.WriteOptions, w writing) error {
	o := deleteOptions{cascade: "background", dry: dryNone, grace: -1, ignoreAbsent: true}
	wire, err := o.wire()
	if err != nil {
		return err
	}
	gone, err := s.deleteOne(ctx, d.target, o, wire)
	if err != nil {
		return err
	}
	if gone.uid != "" {
		if err := s.waitOneGone(ctx, gone); err != nil {
			return fmt.Errorf("wait until it is gone: %w", err)
		}
	}
	return s.createOne(ctx, d, opts, w)
}
