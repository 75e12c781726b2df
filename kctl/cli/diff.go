package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"bareboat.dev/kctl/api"
	"bareboat.dev/kctl/output"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

func (s *session) diffCommand() *cobra.Command {
	var w writeFlags
	var force bool
	c := &cobra.Command{
		Use: "diff -f FILE…", Short: "Show what apply would change", Args: cobra.NoArgs,
		Long: `Show what apply would change, as the server would store it. The exit code is 0 without a difference, 1 with one, and greater for an
error. $KUBECTL_EXTERNAL_DIFF names another program than diff; its arguments are two folders.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := s.diff(cmd.Context(), w, force)
			var exit *exitError
			if err != nil && !errors.As(err, &exit) {
				return &exitError{code: 2, msg: describeError(s, err)}
			}
			return err
		},
	}
	c.Flags().StringSliceVarP(&w.files, "filename", "f", nil, "`file`, folder or - (standard input) that holds the objects")
	c.Flags().BoolVarP(&w.recursive, "recursive", "R", false, "go through folders below, too")
	c.Flags().StringVarP(&w.labels, "selector", "l", "", "only objects whose labels match")
	c.Flags().StringVar(&w.manager, "field-manager", fieldManager, "`name` of the writer in managed fields")
	c.Flags().BoolVar(&w.showManaged, "show-managed-fields", false, "compare metadata.managedFields, too")
	c.Flags().BoolVar(&force, "force-conflicts", true, "show what becomes of fields that other managers have set; with =false that is an error")
	c.Flags().Bool("server-side", true, "the difference is always what the server would store; accepted for kubectl's sake")
	_ = c.MarkFlagRequired("filename")
	return c
}

func (s *session) diff(ctx context.Context, w writeFlags, force bool) error {
	docs, err := s.selected(ctx, w)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kctl-diff-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, d := range docs {
		live, merged, err := s.dryApply(ctx, d, w.manager, force)
		if err != nil {
			return aboutDocument(d, err)
		}
		if d.info.Group == "" && d.info.Kind == "Secret" {
			maskSecret(live, merged)
		}
		name := strings.Join([]string{d.info.Group, d.info.Version, d.info.Kind, d.namespace, d.name()}, ".")
		if err := errors.Join(diffFile(dir, "LIVE", name, live, w.showManaged), diffFile(dir, "MERGED", name, merged, w.showManaged)); err != nil {
			return err
		}
	}
	return s.runDiff(ctx, dir)
}

// dryApply returns an object as it is, or nil, and as apply would make it.
func (s *session) dryApply(ctx context.Context, d document, manager string, force bool) (live, merged *unstructured.Unstructured, err error) {
	live, err = s.server.Get(ctx, d.info, d.namespace, d.name())
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, nil, err
	}
	resp, err := s.server.Patch(ctx, &apiv1.PatchRequest{
		Ref: api.Ref(d.info, d.namespace, d.name()), Type: apiv1.PatchRequest_TYPE_APPLY, Patch: d.Data, Force: force,
		Options: &apiv1.WriteOptions{FieldManager: manager, DryRun: true, FieldValidation: apiv1.FieldValidation_FIELD_VALIDATION_STRICT},
	})
	if err != nil {
		return nil, nil, err
	}
	merged, err = api.Decode(d.info, resp.Object)
	return live, merged, err
}

func diffFile(dir, side, name string, u *unstructured.Unstructured, showManaged bool) error {
	if err := os.MkdirAll(filepath.Join(dir, side), 0o700); err != nil || u == nil {
		return err
	}
	unstructured.RemoveNestedField(u.Object, "metadata", "resourceVersion") // differs with every write
	p, err := output.New("yaml", output.Options{ShowManaged: showManaged})
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := p.Print(&text, u); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, side, name), text.Bytes(), 0o600)
}

func (s *session) runDiff(ctx context.Context, dir string) error {
	program := strings.Fields(cmp.Or(os.Getenv("KUBECTL_EXTERNAL_DIFF"), "diff -u -N"))
	cmd := exec.CommandContext(ctx, program[0], append(program[1:], "LIVE", "MERGED")...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, s.out, s.err
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit) && exit.ExitCode() == 1:
		return &exitError{code: 1}
	}
	return fmt.Errorf("run %s: %w", strings.Join(program, " "), err)
}
