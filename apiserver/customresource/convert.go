package customresource

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/webhook"
)

// Call sends a request to a webhook: (*webhook.Client).Call.
type Call func(ctx context.Context, target webhook.Target, request, response any) error

// conversionTimeout is how long a conversion webhook may take, as long as kube-apiserver gives it.
const conversionTimeout = 30 * time.Second

// converter converts objects between the versions of a definition.
type converter interface {
	// convert returns the content of an object in another version. It does not modify the object; the result may share memory
	// with it.
	convert(obj *registry.CustomObject, to schema.GroupVersion) (map[string]any, error)
}

func newConverter(d *v1.CustomResourceDefinition, call Call) converter {
	c := d.Spec.Conversion
	if c == nil || c.Strategy != v1.WebhookConverter || c.Webhook == nil || c.Webhook.ClientConfig == nil {
		return renaming{}
	}
	return &remote{target: target(c.Webhook.ClientConfig), versions: c.Webhook.ConversionReviewVersions, call: call}
}

func target(c *v1.WebhookClientConfig) webhook.Target {
	t := webhook.Target{CABundle: c.CABundle}
	if c.URL != nil {
		t.URL = *c.URL
	}
	if s := c.Service; s != nil {
		t.Service = &webhook.Service{Namespace: s.Namespace, Name: s.Name, Port: 443}
		if s.Path != nil {
			t.Service.Path = *s.Path
		}
		if s.Port != nil {
			t.Service.Port = *s.Port
		}
	}
	return t
}

// renaming is the strategy None: another version is another name for the same content.
type renaming struct{}

func (renaming) convert(obj *registry.CustomObject, to schema.GroupVersion) (map[string]any, error) {
	out := runtime.DeepCopyJSON(obj.Object)
	out["apiVersion"] = to.String()
	return out, nil
}

// remote asks a webhook.
type remote struct {
	target   webhook.Target
	versions []string
	call     Call
}

// review is a ConversionReview of v1 or v1beta1, which have the same form.
type review struct {
	metav1.TypeMeta
	Request  *reviewRequest  `json:"request,omitempty"`
	Response *reviewResponse `json:"response,omitempty"`
}

type reviewRequest struct {
	UID               string           `json:"uid"`
	DesiredAPIVersion string           `json:"desiredAPIVersion"`
	Objects           []map[string]any `json:"objects"`
}

type reviewResponse struct {
	UID              string            `json:"uid"`
	ConvertedObjects []json.RawMessage `json:"convertedObjects"`
	Result           metav1.Status     `json:"result"`
}

var errNoReviewVersion = errors.New("no supported conversion review versions")

func (r *remote) convert(obj *registry.CustomObject, to schema.GroupVersion) (map[string]any, error) {
	contents, err := r.convertAll([]*registry.CustomObject{obj}, to)
	if err != nil {
		return nil, err
	}
	return contents[0], nil
}

// convertAll asks for objects of one kind, of which there is one at least, in one review. What it returns is in their order.
func (r *remote) convertAll(list []*registry.CustomObject, to schema.GroupVersion) ([]map[string]any, error) {
	kind := list[0].GroupVersionKind()
	i := slices.IndexFunc(r.versions, func(v string) bool { return v == "v1" || v == "v1beta1" })
	if i < 0 {
		return nil, errNoReviewVersion
	}
	ask := review{
		TypeMeta: metav1.TypeMeta{Kind: "ConversionReview", APIVersion: v1.GroupName + "/" + r.versions[i]},
		Request:  &reviewRequest{UID: randomUID(), DesiredAPIVersion: to.String()},
	}
	for _, obj := range list {
		ask.Request.Objects = append(ask.Request.Objects, obj.Object)
	}
	ctx, cancel := context.WithTimeout(context.Background(), conversionTimeout)
	defer cancel()
	var answer review
	if err := r.call(ctx, r.target, &ask, &answer); err != nil {
		return nil, fmt.Errorf("conversion webhook for %v failed: %w", kind, err)
	}
	objects, err := ask.converted(&answer)
	if err != nil {
		return nil, fmt.Errorf("conversion webhook for %v failed: %w", kind, err)
	}
	if len(objects) != len(list) {
		return nil, fmt.Errorf("conversion webhook for %v returned %d objects, expected %d", kind, len(objects), len(list))
	}
	contents := make([]map[string]any, len(list))
	for i, obj := range list {
		out := &registry.CustomObject{Custom: obj.Custom}
		if err := out.Unmarshal(objects[i]); err != nil {
			return nil, fmt.Errorf("conversion webhook for %v returned invalid object at index %d: %w", kind, i, err)
		}
		if err := accept(obj, out, to, i); err != nil {
			return nil, err
		}
		contents[i] = out.Object
	}
	return contents, nil
}

// converted takes the objects out of an answer to the review.
func (r *review) converted(answer *review) ([]json.RawMessage, error) {
	strict := r.APIVersion == v1.SchemeGroupVersion.String()
	if want := v1.SchemeGroupVersion.WithKind("ConversionReview"); strict && answer.GroupVersionKind() != want {
		return nil, fmt.Errorf("expected webhook response of %v, got %v", want, answer.GroupVersionKind())
	}
	if answer.Response == nil {
		return nil, errors.New("no response provided")
	}
	if got := answer.Response.UID; strict && got != r.Request.UID {
		return nil, fmt.Errorf("expected response.uid=%q, got %q", r.Request.UID, got)
	}
	if result := answer.Response.Result; result.Status != metav1.StatusSuccess {
		if result.Message != "" {
			return nil, errors.New(result.Message)
		}
		return nil, fmt.Errorf("response.result.status was '%s', not 'Success'", result.Status)
	}
	return answer.Response.ConvertedObjects, nil
}

// accept checks that a webhook has returned the object that it was given at an index, and takes no more of its metadata than the labels and
// annotations.
func accept(in, out *registry.CustomObject, to schema.GroupVersion, index int) error {
	kind := in.GroupVersionKind()
	if got := out.GroupVersionKind().GroupVersion(); got != to {
		return fmt.Errorf("conversion webhook for %v returned invalid object at index %d: invalid groupVersion (expected %v, received %v)", kind, index, to, got)
	}
	if got := out.GetKind(); got != kind.Kind {
		return fmt.Errorf("conversion webhook for %v returned invalid object at index %d: invalid kind (expected %v, received %v)", kind, index, kind.Kind, got)
	}
	for _, x := range []struct {
		what      string
		want, got any
	}{
		{"name", in.GetName(), out.GetName()}, {"namespace", in.GetNamespace(), out.GetNamespace()}, {"UID", in.GetUID(), out.GetUID()},
	} {
		if x.want != x.got {
			return fmt.Errorf("conversion webhook for %v returned invalid object: must have the same %s: %v != %v", kind, x.what, x.want, x.got)
		}
	}
	if err := restoreMeta(&in.Unstructured, &out.Unstructured); err != nil {
		return fmt.Errorf("conversion webhook for %v returned invalid metadata: %w", kind, err)
	}
	return nil
}

func restoreMeta(in, out *unstructured.Unstructured) error {
	raw, found := out.Object["metadata"]
	if !found {
		return errors.New("missing metadata in converted object")
	}
	given, ok := raw.(map[string]any)
	if !ok {
		return fmt.Errorf("invalid metadata of type %T in converted object", raw)
	}
	original, _ := in.Object["metadata"].(map[string]any)
	meta := runtime.DeepCopyJSON(original)
	if meta == nil {
		meta = map[string]any{}
	}
	for _, name := range []string{"labels", "annotations"} {
		values, ok := given[name]
		if !ok || values == nil {
			delete(meta, name)
			continue
		}
		checked, err := stringValues(name, values)
		if err != nil {
			return err
		}
		if was, _, _ := unstructured.NestedStringMap(in.Object, "metadata", name); !maps.Equal(was, checked) {
			if err := validStrings(name, checked); err != nil {
				return err
			}
		}
		meta[name] = values
	}
	out.Object["metadata"] = meta
	return nil
}

func stringValues(name string, values any) (map[string]string, error) {
	m, ok := values.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("invalid metadata.%s of type %T in converted object", name, values)
	}
	out := make(map[string]string, len(m))
	for k, value := range m {
		if out[k], ok = value.(string); !ok {
			return nil, fmt.Errorf("metadata.%s[%s] must be a string, but is %T in converted object", name, k, value)
		}
	}
	return out, nil
}

func validStrings(name string, values map[string]string) error {
	if name == "labels" {
		return metavalidation.ValidateLabels(values, field.NewPath("metadata", "labels")).ToAggregate()
	}
	return apivalidation.ValidateAnnotations(values, field.NewPath("metadata", "annotation")).ToAggregate()
}

// randomUID identifies a review.
func randomUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}
