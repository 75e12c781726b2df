package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"

	"bareboat.dev/kctl/api"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// fieldManager is who kctl is in managed fields.
const fieldManager = "kctl"

// writeFlags are common to commands that write files' objects.
type writeFlags struct {
	fileFlags
	writing
	validate, labels string
}

func (w *writeFlags) register(c *cobra.Command) {
	f := c.Flags()
	f.StringSliceVarP(&w.files, "filename", "f", nil, "`file`, folder or - (standard input) that holds the objects")
	f.BoolVarP(&w.recursive, "recursive", "R", false, "go through folders below, too")
	w.writing.register(f)
	f.StringVar(&w.validate, "validate", "strict", "strict, warn or ignore: what becomes of unknown and duplicate fields")
	f.StringVarP(&w.labels, "selector", "l", "", "only objects whose labels match")
}

// options checks the flags' words and turns them into what the server takes.
func (w *writeFlags) options() (*apiv1.WriteOptions, error) {
	o := w.wire()
	validation := map[string]apiv1.FieldValidation{
		"strict": apiv1.FieldValidation_FIELD_VALIDATION_STRICT, "true": apiv1.FieldValidation_FIELD_VALIDATION_STRICT,
		"warn":   apiv1.FieldValidation_FIELD_VALIDATION_WARN,
		"ignore": apiv1.FieldValidation_FIELD_VALIDATION_IGNORE, "false": apiv1.FieldValidation_FIELD_VALIDATION_IGNORE,
	}
	v, ok := validation[w.validate]
	if !ok {
		return nil, fmt.Errorf("--validate: %q is none of strict, warn, ignore", w.validate)
	}
	o.FieldValidation = v
	return o, nil
}

func (s *session) applyCommand() *cobra.Command {
	var w writeFlags
	var force, wait bool
	c := &cobra.Command{
		Use:   "apply -f FILE…",
		Short: "Make objects be what files say",
		Long: `Make objects be what files say: create those that do not exist and change those that differ.

Apply is done by the server (server-side apply): fields that the file sets become as the file says, fields that an earlier
apply set and this file no longer mentions are removed, and fields that others set are left alone. Where another manager has
set a field differently, the file wins; with --force-conflicts=false that is an error that names the other manager.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.apply(cmd.Context(), w, force) },
	}
	w.register(c)
	c.Flags().BoolVar(&force, "force-conflicts", true, "take fields over from other managers")
	c.Flags().Bool("server-side", true, "apply is always done by the server; accepted for kubectl's sake")
	c.Flags().BoolVar(&wait, "wait", false, "accepted for kubectl's sake")
	_ = c.Flags().MarkHidden("wait")
	_ = c.MarkFlagRequired("filename")
	return c
}

func (s *session) apply(ctx context.Context, w writeFlags, force bool) error {
	opts, err := w.options()
	if err != nil {
		return err
	}
	docs, err := s.selected(ctx, w)
	errs := each(err)
	// Namespaces first: the other objects may live in them, in whatever order the files came.
	slices.SortStableFunc(docs, func(a, b document) int { return order(a) - order(b) })
	for _, d := range docs {
		if err := s.applyOne(ctx, d, opts, force, w.writing); err != nil {
			errs = append(errs, aboutDocument(d, err))
		}
	}
	return s.report(errs)
}

func order(d document) int {
	if d.info.Kind == "Namespace" || d.info.Kind == "CustomResourceDefinition" {
		return 0
	}
	return 1
}

func (s *session) applyOne(ctx context.Context, d document, opts *apiv1.WriteOptions, force bool, w writing) error {
	if d.name() == "" {
		return fmt.Errorf("%s: metadata.name: Required value: apply needs a name; use create for generateName", d.info.Kind)
	}
	if w.dry == dryClient {
		return s.wouldApply(ctx, d, w)
	}
	resp, err := s.server.Patch(ctx, &apiv1.PatchRequest{
		Ref: api.Ref(d.info, d.namespace, d.name()), Type: apiv1.PatchRequest_TYPE_APPLY, Patch: d.Data, Options: opts, Force: force,
	})
	if err != nil {
		return err
	}
	verb := "configured"
	switch {
	case resp.Created:
		verb = "created"
	case resp.Unchanged:
		verb = "unchanged"
	}
	return s.done(d.target, verb, w, resp.Object)
}

// wouldApply says what apply would do with an object.
func (s *session) wouldApply(ctx context.Context, d document, w writing) error {
	verb := "configured"
	_, err := s.server.Get(ctx, d.info, d.namespace, d.name())
	switch {
	case apierrors.IsNotFound(err):
		verb = "created"
	case err != nil:
		return err
	}
	obj, err := api.Body(d.ContentType, d.Data)
	if err != nil {
		return err
	}
	return s.done(d.target, verb, w, obj)
}

func (d document) name() string { return d.Document.Name }

// selected reads the files' objects and keeps those that --selector selects.
func (s *session) selected(ctx context.Context, w writeFlags) ([]document, error) {
	sel, err := labels.Parse(w.labels)
	if err != nil {
		return nil, fmt.Errorf("--selector: %w", err)
	}
	docs, err := s.documents(ctx, w.fileFlags)
	return slices.DeleteFunc(docs, func(d document) bool { return !sel.Matches(labels.Set(d.Labels)) }), err
}

// aboutDocument says which object an error is about, unless the server's words name it.
func aboutDocument(d document, err error) error {
	if strings.Contains(err.Error(), fmt.Sprintf("%q", d.name())) {
		return fmt.Errorf("%s: %w", d.Source, err)
	}
	return fmt.Errorf("%s: %s: %w", d.Source, d.target, err)
}

// report prints every error on a line of its own and returns one that only sets the exit code.
func (s *session) report(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	if len(errs) == 1 {
		return errs[0]
	}
	for _, err := range errs {
		fmt.Fprintln(s.err, describeError(s, err))
	}
	return &exitError{code: 1}
}

func (s *session) createCommand() *cobra.Command {
	var w writeFlags
	c := &cobra.Command{
		Use:   "create (-f FILE… | TYPE NAME)",
		Short: "Create objects from files or flags",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("create %s: not known here; write a file and use -f, or one of the commands in `kctl create --help`", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(w.files) == 0 {
				return errors.New("must specify -f, or what to create; see `kctl create --help`")
			}
			return s.create(cmd.Context(), w)
		},
	}
	w.register(c)
	c.AddCommand(s.createSubcommands()...)
	return c
}

func (s *session) create(ctx context.Context, w writeFlags) error {
	opts, err := w.options()
	if err != nil {
		return err
	}
	docs, err := s.selected(ctx, w)
	errs := each(err)
	for _, d := range docs {
		if err := s.createOne(ctx, d, opts, w.writing); err != nil {
			errs = append(errs, fmt.Errorf("error when creating %q: %w", d.Source, err))
		}
	}
	return s.report(errs)
}

func (s *session) createOne(ctx context.Context, d document, opts *apiv1.WriteOptions, w writing) error {
	body, err := api.Body(d.ContentType, d.Data)
	if err != nil {
		return err
	}
	if w.dry == dryClient {
		return s.done(d.target, "created", w, body)
	}
	resp, err := s.server.Create(ctx, &apiv1.CreateRequest{Ref: api.Ref(d.info, d.namespace, ""), Object: body, Options: opts})
	if err != nil {
		return err
	}
	u, err := api.Decode(d.info, resp.Object)
	if err != nil {
		return err
	}
	t := d.target
	t.name = u.GetName()
	return s.done(t, "created", w, resp.Object)
}

// isConflict reports that somebody else wrote first.
func isConflict(err error) bool { return apierrors.IsConflict(err) }
