package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/admission/expression"
	"bareboat.dev/apiserver/admission/match"
	"bareboat.dev/apiserver/authz"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/webhook"
)

// Config is what the plugins are made of.
type Config struct {
	Reader     match.Reader
	Client     *webhook.Client
	Authorizer authz.Authorizer
	Compiler   *expression.Compiler
	// ID makes the uid of a review.
	ID func() string
}

// asker asks webhooks of one kind.
type asker struct {
	cfg     Config
	source  *match.Source
	planner planner
}

func newAsker(cfg Config, plural string) *asker {
	k := &asker{cfg: cfg, source: match.NewSource(cfg.Reader), planner: planner{reader: cfg.Reader, plural: plural, compiler: cfg.Compiler}}
	if all, ok := cfg.Reader.Collection(admissionregistrationv1.GroupName, plural); ok {
		k.planner.all = all
	}
	return k
}

// exempt: the objects by which admission is configured are not held to it, so that a mistake in them can be mended.
func exempt(a *admission.Attributes) bool {
	return a.Resource.Kind.Group == admissionregistrationv1.GroupName || a.Object == nil && a.Old == nil && a.Body == nil
}

// selects reports whether a webhook is to be asked about a write, and as which resource.
func (k *asker) selects(ctx context.Context, h *hook, w *match.Write) (*registry.Resource, bool, error) {
	if h.broken != nil {
		return nil, false, apierrors.NewInternalError(&callError{h.name, h.broken})
	}
	as, ok, err := h.criteria.Match(ctx, w)
	if err != nil || !ok || h.conditions == nil {
		return as, ok, err
	}
	ns, err := w.Namespace(ctx)
	if err != nil {
		return nil, false, err
	}
	object, old := w.Reviewed()
	in := expression.NewInput(w.Review(string(w.Operation()), as), object, old, ns)
	if k.cfg.Authorizer != nil {
		in = in.WithAuthorizer(w.User, k.cfg.Authorizer, w.Resource.Kind.Group, w.Resource.Kind.Version, w.Resource.Plural, w.Subresource, w.Attributes.Namespace, w.Name)
	}
	ok, err = h.conditions.Match(ctx, in, expression.MatchBudget)
	if err != nil {
		if h.ignore {
			return nil, false, nil
		}
		return nil, false, apierrors.NewForbidden(w.Resource.GVR().GroupResource(), w.ObjectName(), err)
	}
	return as, ok, nil
}

// ask sends a review and returns the answer. The errors are *callError for what the webhook's failure policy decides about, and final else.
func (k *asker) ask(ctx context.Context, h *hook, w *match.Write, as *registry.Resource, object, old runtime.Object) (*admissionv1.AdmissionResponse, error) {
	if w.DryRun && !h.dry {
		return nil, dryRun(h.name)
	}
	request := w.Review(string(w.Operation()), as)
	request.UID = types.UID(k.cfg.ID())
	var err error
	if request.Object.Raw, err = encode(object, w.Resource, as); err == nil {
		request.OldObject.Raw, err = encode(old, w.Resource, as)
	}
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	review := &admissionv1.AdmissionReview{Request: request}
	review.APIVersion, review.Kind = "admission.k8s.io/"+h.version, "AdmissionReview"
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	var answer admissionv1.AdmissionReview
	if err := k.cfg.Client.Call(ctx, h.target, review, &answer); err != nil {
		return nil, &callError{h.name, fmt.Errorf("failed to call webhook: %w", err)}
	}
	if err := verify(review, &answer, h.version); err != nil {
		return nil, &callError{h.name, fmt.Errorf("received invalid webhook response: %w", err)}
	}
	return answer.Response, nil
}

// encode writes an object as JSON in the form that a webhook wants.
func encode(obj runtime.Object, from, as *registry.Resource) ([]byte, error) {
	if obj == nil {
		return nil, nil
	}
	if o, ok := obj.(registry.Object); ok && o.GetObjectKind().GroupVersionKind() == from.Kind {
		converted, err := match.Convert(o, from, as)
		if err != nil {
			return nil, err
		}
		obj = converted
	}
	return json.Marshal(obj)
}

var errNoResponse = errors.New("webhook response was absent")

// verify holds an answer to what a webhook must answer.
func verify(asked, answer *admissionv1.AdmissionReview, version string) error {
	r := answer.Response
	if r == nil {
		return errNoResponse
	}
	if version != "v1" {
		return nil // v1beta1 demands no more
	}
	if want, got := asked.GroupVersionKind(), answer.GroupVersionKind(); got != want {
		return fmt.Errorf("expected webhook response of %v, got %v", want.String(), got.String())
	}
	if r.UID != asked.Request.UID {
		return fmt.Errorf("expected response.uid=%q, got %q", asked.Request.UID, r.UID)
	}
	switch {
	case len(r.Patch) > 0 && r.PatchType == nil:
		return errors.New("webhook returned response.patch but not response.patchType")
	case len(r.Patch) == 0 && r.PatchType != nil:
		return errors.New("webhook returned response.patchType but not response.patch")
	case r.PatchType != nil && *r.PatchType != admissionv1.PatchTypeJSONPatch:
		return fmt.Errorf("webhook returned invalid response.patchType of %q", *r.PatchType)
	}
	return nil
}

// failed decides about an error of ask: nil lets the write pass.
func failed(h *hook, a *admission.Attributes, kind string, index int, err error) error {
	var call *callError
	if !errors.As(err, &call) {
		return err
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	if !h.ignore {
		return apierrors.NewInternalError(call)
	}
	a.Note(fmt.Sprintf("failed-open.%s.webhook.admission.k8s.io/round_%d_index_%d", kind, a.Round, index), h.name)
	return nil
}

// tell passes on what an answer says beside its verdict.
func tell(h *hook, a *admission.Attributes, r *admissionv1.AdmissionResponse) {
	for key, value := range r.AuditAnnotations {
		a.Note(h.name+"/"+key, value)
	}
	for _, text := range r.Warnings {
		a.Warn(text)
	}
}
