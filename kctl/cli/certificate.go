package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/kctl/api"
	"bareboat.dev/kctl/output"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

func (s *session) certificateCommand() *cobra.Command {
	c := &cobra.Command{Use: "certificate", Short: "Approve and deny requests for certificates"}
	c.AddCommand(s.decideCommand("approve", certificatesv1.CertificateApproved, "approved"), s.decideCommand("deny", certificatesv1.CertificateDenied, "denied"))
	return c
}

// decideCommand is `certificate approve` and `certificate deny`.
func (s *session) decideCommand(verb string, decision certificatesv1.RequestConditionType, done string) *cobra.Command {
	var f fileFlags
	var how printing
	var force bool
	c := &cobra.Command{
		Use: verb + " (NAME… | -f FILE)", Short: map[string]string{"approve": "Let the signer sign requests", "deny": "Have the signer turn requests down"}[verb],
		RunE: func(cmd *cobra.Command, args []string) error {
			targets, err := s.requests(cmd.Context(), f, args)
			if err != nil {
				return err
			}
			for _, t := range targets {
				if err := s.decide(cmd.Context(), t, decision, done, how, force); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringSliceVarP(&f.files, "filename", "f", nil, "`file`, folder or - whose requests to decide on")
	c.Flags().BoolVarP(&f.recursive, "recursive", "R", false, "with -f, go through folders below")
	how.register(c.Flags(), "print the result instead of a line: "+output.Formats)
	c.Flags().BoolVar(&force, "force", false, "write the decision even if it has been taken already")
	return c
}

// requests are the certificate signing requests that arguments name, with or without their type.
func (s *session) requests(ctx context.Context, f fileFlags, args []string) ([]target, error) {
	if len(f.files) > 0 {
		return s.fileTargets(ctx, f)
	}
	if len(args) == 0 {
		return nil, errors.New("one or more CSRs must be specified as <name> or -f <filename>")
	}
	if !strings.Contains(args[0], "/") {
		args = append([]string{"certificatesigningrequests." + certificatesv1.GroupName}, args...)
	}
	return s.named(ctx, args)
}

// decide adds the condition. A request that has the other one already is refused by the server.
func (s *session) decide(ctx context.Context, t target, decision certificatesv1.RequestConditionType, done string, how printing, force bool) error {
	ref := api.Ref(t.info, t.namespace, t.name)
	ref.Subresource = "approval"
	for {
		u, err := s.server.Get(ctx, t.info, t.namespace, t.name)
		if err != nil {
			return err
		}
		changed, err := decided(u, decision, force, time.Now())
		if err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
		body, err := api.JSON(u)
		if err != nil {
			return err
		}
		if !changed {
			return s.result(t, done, how, body)
		}
		resp, err := s.server.Update(ctx, &apiv1.UpdateRequest{Ref: ref, Object: body, Options: &apiv1.WriteOptions{FieldManager: fieldManager}})
		if err == nil {
			return s.result(t, done, how, resp.Object)
		}
		if !isConflict(err) {
			return err
		}
	}
}

// decided puts the decision into a request, unless it is there.
func decided(u *unstructured.Unstructured, decision certificatesv1.RequestConditionType, force bool, now time.Time) (changed bool, err error) {
	if u.GroupVersionKind().GroupKind() != (schema.GroupKind{Group: certificatesv1.GroupName, Kind: "CertificateSigningRequest"}) {
		return false, fmt.Errorf("a %s is no request for a certificate", u.GetKind())
	}
	var csr certificatesv1.CertificateSigningRequest
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &csr); err != nil {
		return false, err
	}
	is := func(c certificatesv1.CertificateSigningRequestCondition) bool { return c.Type == decision }
	at := slices.IndexFunc(csr.Status.Conditions, is)
	if at >= 0 && !force {
		return false, nil
	}
	reason, word := "KubectlApprove", "approved"
	if decision == certificatesv1.CertificateDenied {
		reason, word = "KubectlDeny", "denied"
	}
	condition := certificatesv1.CertificateSigningRequestCondition{
		Type: decision, Status: corev1.ConditionTrue, Reason: reason, Message: "This CSR was " + word + " by kctl certificate " + map[bool]string{true: "approve", false: "deny"}[decision == certificatesv1.CertificateApproved] + ".",
		LastUpdateTime: metav1.NewTime(now),
	}
	if at >= 0 {
		condition.LastTransitionTime = csr.Status.Conditions[at].LastTransitionTime
		csr.Status.Conditions[at] = condition
	} else {
		csr.Status.Conditions = append(csr.Status.Conditions, condition)
	}
	u.Object, err = runtime.DefaultUnstructuredConverter.ToUnstructured(&csr)
	u.SetGroupVersionKind(certificatesv1.SchemeGroupVersion.WithKind("CertificateSigningRequest"))
	return true, err
}
