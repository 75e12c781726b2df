package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"

	"bareboat.dev/kctl/api"
	"bareboat.dev/kctl/output"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

func (s *session) editCommand() *cobra.Command {
	var subresource string
	var f fileFlags
	c := &cobra.Command{
		Use: "edit (TYPE/NAME… | -f FILE)", Short: "Change objects in an editor ($KUBE_EDITOR, $EDITOR, or vi)",
		Long: `Change objects in an editor. What the server refuses is opened again with its reasons on top. An edit that is left as it was, or
emptied, changes nothing. A change that somebody else made meanwhile is never overwritten.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			targets, err := s.fileOrNamed(cmd.Context(), f, args)
			if err != nil {
				return err
			}
			for _, t := range targets {
				if err := s.edit(cmd.Context(), t, subresource); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f.register(c.Flags(), "edit")
	c.Flags().StringVar(&subresource, "subresource", "", "edit this subresource, e.g. status")
	return c
}

const editHint = "# Lines that begin with # are left out. An empty file or no change ends the edit without one.\n"

func (s *session) edit(ctx context.Context, t target, subresource string) error {
	u, err := s.server.Get(ctx, t.info, t.namespace, t.name)
	if err != nil {
		return err
	}
	printer, err := output.New("yaml", output.Options{})
	if err != nil {
		return err
	}
	var original bytes.Buffer
	if err := printer.Print(&original, u); err != nil {
		return err
	}
	text, complaint := original.Bytes(), ""
	for {
		edited, err := s.openEditor(ctx, append([]byte(editHint+complaint+"#\n"), text...))
		if err != nil {
			return err
		}
		edited = withoutComments(edited)
		switch {
		case len(bytes.TrimSpace(edited)) == 0, bytes.Equal(edited, original.Bytes()):
			fmt.Fprintln(s.err, "Edit cancelled, no changes made.")
			return nil
		case complaint != "" && bytes.Equal(edited, text):
			return s.keepEdit(edited, errors.New("the server refused the edit, and it was left as it was"))
		}
		err = s.storeEdit(ctx, t, subresource, edited)
		if err == nil {
			fmt.Fprintf(s.out, "%s edited\n", t)
			return nil
		}
		if !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err) {
			return s.keepEdit(edited, err)
		}
		text, complaint = edited, "# "+strings.ReplaceAll(err.Error(), "\n", "\n# ")+"\n"
	}
}

func (s *session) storeEdit(ctx context.Context, t target, subresource string, data []byte) error {
	body, err := api.Body(runtime.ContentTypeYAML, data)
	if err != nil {
		return err
	}
	ref := api.Ref(t.info, t.namespace, t.name)
	ref.Subresource = subresource
	_, err = s.server.Update(ctx, &apiv1.UpdateRequest{Ref: ref, Object: body, Options: &apiv1.WriteOptions{
		FieldManager: fieldManager, FieldValidation: apiv1.FieldValidation_FIELD_VALIDATION_STRICT,
	}})
	return err
}

// openEditor lets the user change text and returns what has become of it.
func (s *session) openEditor(ctx context.Context, text []byte) ([]byte, error) {
	f, err := os.CreateTemp("", "kctl-edit-*.yaml")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	editor := cmp.Or(os.Getenv("KUBE_EDITOR"), os.Getenv("EDITOR"), "vi")
	// The variable may carry arguments, so that a shell splits it.
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", editor+` "$0"`, f.Name())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.in, s.out, s.err
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("the editor %q failed: %w; set KUBE_EDITOR to another", editor, err)
	}
	return os.ReadFile(f.Name())
}

// keepEdit saves an edit that could not be stored, since its author should not have to write it again.
func (s *session) keepEdit(data []byte, why error) error {
	f, err := os.CreateTemp("", "kctl-edit-*.yaml")
	if err != nil {
		return errors.Join(why, err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(why, err)
	}
	fmt.Fprintf(s.err, "A copy of your changes has been stored to %q\n", f.Name())
	return why
}

func withoutComments(data []byte) []byte {
	var out []byte
	for line := range bytes.Lines(data) {
		if !bytes.HasPrefix(line, []byte("#")) {
			out = append(out, line...)
		}
	}
	return out
}
