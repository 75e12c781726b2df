package rest

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	listvalidation "k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry/codec"
	"bareboat.dev/apiserver/server/inflight"
)

// readOptions puts a read's query parameters into a request.
func readOptions(r *pipeline.Request, q url.Values) error {
	r.ResourceVersion, r.Match = q.Get("resourceVersion"), pipeline.Match(q.Get("resourceVersionMatch"))
	r.LabelSelector, r.FieldSelector, r.Continue = q.Get("labelSelector"), q.Get("fieldSelector"), q.Get("continue")
	if s := q.Get("limit"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return apierrors.NewBadRequest(err.Error())
		}
		r.Limit = n
	}
	r.Bookmarks = boolean(q, "allowWatchBookmarks")
	r.SendInitialEvents = boolean(q, "sendInitialEvents")
	return nil
}

// checkListOptions holds the parameters of a list or a watch together (KEP-2523, KEP-3157).
func checkListOptions(q url.Values, watch bool) error {
	o := &internalversion.ListOptions{
		Watch: watch, ResourceVersion: q.Get("resourceVersion"), ResourceVersionMatch: metav1.ResourceVersionMatch(q.Get("resourceVersionMatch")), Continue: q.Get("continue"),
	}
	if q.Has("sendInitialEvents") {
		sent := boolean(q, "sendInitialEvents")
		o.SendInitialEvents = &sent
	}
	return invalidOptions("ListOptions", listvalidation.ValidateListOptions(o, true))
}

// invalidOptions is the answer to options that are wrong, or nil.
func invalidOptions(kind string, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: kind}, "", errs)
}

// deadline is how long a request may take: as long as its parameter timeout says, up to the server's bound.
func deadline(q url.Values) (time.Duration, error) {
	asked := q.Get("timeout")
	if asked == "" {
		return inflight.RequestTimeout, nil
	}
	d, err := time.ParseDuration(asked)
	if err != nil {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("invalid timeout specified in the request URL - %v", err))
	}
	if d <= 0 {
		return inflight.RequestTimeout, nil
	}
	return min(d, inflight.RequestTimeout), nil
}

// boolean reads a parameter as Kubernetes does: one that is there is true, whatever it says, unless it says false or 0.
func boolean(q url.Values, name string) bool {
	if !q.Has(name) {
		return false
	}
	v := q.Get(name)
	return v != "0" && !strings.EqualFold(v, "false")
}

// writeOptions puts a write's query parameters into a request.
func writeOptions(r *pipeline.Request, q url.Values, kind string) error {
	o := &metav1.PatchOptions{DryRun: q["dryRun"], FieldManager: q.Get("fieldManager"), FieldValidation: q.Get("fieldValidation")}
	patch := types.PatchType(r.PatchType)
	switch {
	case r.Verb != pipeline.Patch:
		// The options of creations and updates are these, without force.
		patch = types.MergePatchType
	case q.Has("force"):
		force := boolean(q, "force")
		o.Force = &force
	}
	if err := invalidOptions(kind, metavalidation.ValidatePatchOptions(o, patch)); err != nil {
		return err
	}
	r.DryRun, r.FieldManager = len(o.DryRun) > 0, o.FieldManager
	r.Force = o.Force != nil && *o.Force
	switch o.FieldValidation {
	case metav1.FieldValidationIgnore:
		r.FieldValidation = codec.Ignore
	case metav1.FieldValidationStrict:
		r.FieldValidation = codec.Strict
	}
	return nil
}

// deleteOptions reads a deletion's options from its query and its body.
func (h *Handler) deleteOptions(r *pipeline.Request, q url.Values, contentType string, body []byte) error {
	if len(body) > 0 {
		if err := decodeDeleteOptions(contentType, body, &r.Delete); err != nil {
			return err
		}
	}
	if s := q.Get("gracePeriodSeconds"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return apierrors.NewBadRequest(err.Error())
		}
		r.Delete.GracePeriodSeconds = &n
	}
	if s := metav1.DeletionPropagation(q.Get("propagationPolicy")); s != "" {
		r.Delete.PropagationPolicy = &s
	}
	if q.Has("orphanDependents") {
		b := boolean(q, "orphanDependents")
		//lint:ignore SA1019 clients still send it
		r.Delete.OrphanDependents = &b
	}
	r.Delete.DryRun = append(r.Delete.DryRun, q["dryRun"]...)
	r.DryRun = len(r.Delete.DryRun) > 0
	return nil
}

// decodeDeleteOptions decodes a DeleteOptions of any group: clients send the one of the object's group, or v1, or none.
func decodeDeleteOptions(contentType string, body []byte, into *metav1.DeleteOptions) error {
	var err error
	switch mediaType(contentType) {
	case codec.Protobuf:
		var unknown runtime.Unknown
		raw, ok := bytes.CutPrefix(body, []byte("k8s\x00"))
		if !ok {
			return apierrors.NewBadRequest("the body is not a protobuf envelope")
		}
		if err = unknown.Unmarshal(raw); err == nil {
			into.TypeMeta = metav1.TypeMeta{APIVersion: unknown.APIVersion, Kind: unknown.Kind}
			kept := into.TypeMeta
			err = into.Unmarshal(unknown.Raw)
			into.TypeMeta = kept
		}
	default: // JSON, which YAML contains
		err = yaml.Unmarshal(body, into)
	}
	if err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("couldn't decode DeleteOptions: %v", err))
	}
	if into.Kind != "" && into.Kind != "DeleteOptions" {
		return apierrors.NewBadRequest(fmt.Sprintf("decoded object cannot be converted to DeleteOptions: %s", into.Kind))
	}
	return nil
}

// readBody reads a request's body, up to the limit.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		// As in Kubernetes nothing is unpacked; a few bytes could become a great many.
		return nil, &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
			Message: fmt.Sprintf("the body of the request is encoded as %q - it must be sent as it is", e),
		}}
	}
	if r.ContentLength > codec.MaxBody {
		return nil, tooLarge()
	}
	var body bytes.Buffer
	if n := r.ContentLength; n > 0 {
		body.Grow(int(min(n, believed)) + bytes.MinRead)
	}
	if _, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, codec.MaxBody)); err != nil {
		if body.Len() >= codec.MaxBody {
			return nil, tooLarge()
		}
		return nil, apierrors.NewBadRequest("reading the request's body: " + err.Error())
	}
	return body.Bytes(), nil
}

// believed is the most that a request which says how long it is gets reserved before it has been sent: more than most objects have.
const believed = 64 << 10

func tooLarge() error {
	return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", codec.MaxBody))
}

// mediaType is a content type without its parameters.
func mediaType(header string) string {
	media, _, _ := strings.Cut(header, ";")
	return strings.ToLower(strings.TrimSpace(media))
}
