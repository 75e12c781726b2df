package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

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
	// Observe is told of every webhook that was asked, and Now is the clock by which it is told how long that took; nil: nobody is.
	Observe func(Asked)
	Now     func() time.Time
}

// Asked is a webhook that was asked about a write.
type Asked struct {
	// Name is the webhook's, Kind "admit" or "validating".
	Name, Kind string
	Operation  admission.Operation
	Took       time.Duration
	// Code is that of the refusal or error, and 200 if there was none.
	Code int
	// Failed: there was no answer, which refuses the write unless the webhook's failures are ignored.
	Failed, Rejected bool
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

// asked asks, and tells the observer.
func (k *asker) asked(ctx context.Context, kind string, h *hook, w *match.Write, as *registry.Resource, object, old runtime.Object) (*admissionv1.AdmissionResponse, error) {
	if k.cfg.Observe == nil {
		return k.ask(ctx, h, w, as, object, old)
	}
	start := k.cfg.Now()
	answer, err := k.ask(ctx, h, w, as, object, old)
	o := Asked{Name: h.name, Kind: kind, Operation: admission.Operation(w.Operation()), Took: k.cfg.Now().Sub(start), Code: http.StatusOK}
	var call *callError
	var status apierrors.APIStatus
	switch {
	case errors.As(err, &call):
		o.Failed, o.Rejected, o.Code = true, !h.ignore, http.StatusInternalServerError
	case err != nil:
		o.Rejected, o.Code = true, http.StatusInternalServerError
		if errors.As(err, &status) {
			o.Code = int(status.Status().Code)
		}
	case !answer.Allowed:
		o.Rejected, o.Code = true, http.StatusBadRequest
		if answer.Result != nil && answer.Result.Code >= http.StatusBadRequest {
			o.Code = int(answer.Result.Code)
		}
	}
	k.cfg.Observe(o)
	return answer, err
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
