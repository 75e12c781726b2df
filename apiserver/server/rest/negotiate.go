package rest

import (
	"mime"
	"net/http"
	"sort"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry/codec"
)

// view is how much of an object is sent.
type view int

const (
	full view = iota
	metadataOnly
	asTable
)

// format is what a client accepts: a media type and a view.
type format struct {
	media  string
	view   view
	pretty bool
	// beta asks for a table as meta.k8s.io/v1beta1 calls it; it has the same fields.
	beta bool
}

// forms are those that an answer can have besides JSON and YAML of the object, and its metadata.
type forms struct{ protobuf, table bool }

// formatOf negotiates the form of an answer about a resource.
func (h *Handler) formatOf(r *http.Request, ref pipeline.Ref) (format, error) {
	return negotiate(r, forms{protobuf: h.inProtobuf(ref), table: h.tabular(ref)})
}

// tabular reports whether there are tables of a resource or subresource: not, as in Kubernetes, of what can only be created, such as
// reviews of access, evictions and tokens.
func (h *Handler) tabular(ref pipeline.Ref) bool {
	res, builtIn := h.cfg.Pipeline.Fixed().Lookup(ref.Group, ref.Version, ref.Resource)
	if !builtIn {
		return true
	}
	verbs := res.Verbs
	if sub, ok := res.Subresources[ref.Subresource]; ok {
		verbs = sub.Verbs
	}
	return len(verbs) != 1 || verbs[0] != "create"
}

// inProtobuf reports whether a resource's objects have a protobuf form: built-in ones do, custom ones do not.
func (h *Handler) inProtobuf(ref pipeline.Ref) bool {
	_, builtIn := h.cfg.Pipeline.Fixed().Lookup(ref.Group, ref.Version, ref.Resource)
	return builtIn
}

// negotiate picks the first acceptable format of an Accept header, by quality and then order. Without protobuf the objects themselves are
// not sent in it, so that clients who would rather have it get what else they take; their metadata is.
func negotiate(r *http.Request, can forms) (format, error) {
	f := format{media: codec.JSON, pretty: pretty(r)}
	header := r.Header.Get("Accept")
	if header == "" {
		return f, nil
	}
	for _, a := range accepted(header) {
		v, ok := viewOf(a.params)
		if !ok || v == asTable && !can.table {
			continue
		}
		switch a.media {
		case "*/*", "application/*", codec.JSON:
			return format{media: codec.JSON, view: v, pretty: f.pretty, beta: beta(a.params)}, nil
		case codec.YAML, codec.Protobuf:
			if a.media == codec.Protobuf && (v == asTable || v == full && !can.protobuf) {
				continue // neither has a protobuf form
			}
			return format{media: a.media, view: v, beta: beta(a.params)}, nil
		}
	}
	return f, notAcceptable(codec.JSON, codec.YAML, codec.Protobuf)
}

func notAcceptable(media ...string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
		Message: "only the following media types are accepted: " + strings.Join(media, ", "),
	}}
}

// negotiateStream is negotiate for watches, of which YAML has no form.
func negotiateStream(r *http.Request, protobuf bool) (format, error) {
	for _, a := range accepted(r.Header.Get("Accept")) {
		v, ok := viewOf(a.params)
		if !ok {
			continue
		}
		switch a.media {
		case "*/*", "application/*", codec.JSON:
			return format{media: codec.JSON, view: v, beta: beta(a.params)}, nil
		case codec.Protobuf:
			if v == metadataOnly || v == full && protobuf {
				return format{media: codec.Protobuf, view: v}, nil
			}
		}
	}
	if r.Header.Get("Accept") == "" {
		return format{media: codec.JSON}, nil
	}
	return format{}, notAcceptable(codec.JSON+";stream=watch", codec.Protobuf+";stream=watch")
}

// viewOf understands the parameters by which clients ask for tables and metadata.
func viewOf(params map[string]string) (view, bool) {
	switch params["as"] {
	case "":
		return full, true
	case "Table":
		return asTable, params["g"] == metav1.GroupName && (params["v"] == "v1" || beta(params))
	case "PartialObjectMetadata", "PartialObjectMetadataList":
		return metadataOnly, params["g"] == metav1.GroupName && params["v"] == "v1"
	}
	return full, false
}

func beta(params map[string]string) bool { return params["v"] == "v1beta1" }

type clause struct {
	media   string
	params  map[string]string
	quality float64
}

func accepted(header string) []clause {
	var out []clause
	for _, part := range strings.Split(header, ",") {
		media, params, err := mime.ParseMediaType(strings.TrimSpace(part))
		if err != nil {
			continue
		}
		c := clause{media, params, 1}
		if q, err := strconv.ParseFloat(params["q"], 64); err == nil {
			c.quality = q
		}
		out = append(out, c)
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].quality > out[j].quality })
	return out
}

// pretty: when asked for, or when a person seems to be looking.
func pretty(r *http.Request) bool {
	if q := r.URL.Query(); q.Has("pretty") {
		return boolean(q, "pretty")
	}
	agent := r.UserAgent()
	return strings.HasPrefix(agent, "curl") || strings.HasPrefix(agent, "Wget") || strings.HasPrefix(agent, "Mozilla/5.0")
}
