package pipeline

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/codec"
)

// Verb is what a request does, in Kubernetes' spelling.
type Verb string

// The verbs. Connect is for streams into a node; its authorization verb is "get" or "create".
const (
	Get              Verb = "get"
	List             Verb = "list"
	Watch            Verb = "watch"
	Create           Verb = "create"
	Update           Verb = "update"
	Patch            Verb = "patch"
	Delete           Verb = "delete"
	DeleteCollection Verb = "deletecollection"
)

// Ref names a collection, an object in it, or a part of that object. An empty Version is the group's preferred one.
type Ref struct {
	Group, Version, Resource, Namespace, Name, Subresource string
}

// Caller is who sends a request and how.
type Caller struct {
	User *authn.Identity
	// Real is who authenticated, if he asked to be treated as User; else nil.
	Real *authn.Identity
	// Door is "grpc" or "rest".
	Door string
	// UserAgent and Address are for audit and the default field manager.
	UserAgent, Address string
	// URI is what was asked for, as the client wrote it: an HTTP request's path and query, or a gRPC method.
	URI string
	// AuditID names the request in the audit log and to its client; empty if the client is not told.
	AuditID string
}

// Match says how a read's resource version is understood (resourceVersionMatch).
type Match string

// The matches; MatchUnset is "" and means NotOlderThan where a version is given.
const (
	MatchUnset        Match = ""
	MatchNotOlderThan Match = "NotOlderThan"
	MatchExact        Match = "Exact"
)

// Body is a request's object.
type Body struct {
	// ContentType is codec.JSON, codec.YAML or codec.Protobuf (the "k8s\x00" envelope); or Raw.
	ContentType string
	Data        []byte
	// Kind of a Raw body.
	Kind schema.GroupVersionKind
}

// Raw is the content type of a bare protobuf message whose kind is Body.Kind.
const Raw = "raw"

// PatchType is how a patch is written; the values are REST's content types.
type PatchType string

// The patch types.
const (
	JSONPatch      PatchType = "application/json-patch+json"
	MergePatch     PatchType = "application/merge-patch+json"
	StrategicPatch PatchType = "application/strategic-merge-patch+json"
	ApplyPatch     PatchType = "application/apply-patch+yaml"
)

// Request is one request. Only the fields of its verb count.
type Request struct {
	Verb Verb
	Ref
	Caller

	// Reads.
	ResourceVersion string
	Match           Match
	LabelSelector   string
	FieldSelector   string
	Limit           int64
	Continue        string
	// Watches. InitialEventsEnd asks for sendInitialEvents' closing bookmark; without it an empty ResourceVersion still
	// begins with the present objects, as Kubernetes does.
	SendInitialEvents bool
	Bookmarks         bool

	// Writes.
	Body            Body
	DryRun          bool
	FieldManager    string
	FieldValidation codec.FieldValidation
	PatchType       PatchType
	Force           bool
	Delete          metav1.DeleteOptions

	// Connect marks a stream into a node or a proxied request, which a door serves by itself; metrics count it as CONNECT.
	Connect bool

	// Notes are what admission has to say to the audit log; set by the pipeline.
	Notes *admission.Notes

	// Served is set by the pipeline once it has found that the resource is served; metrics have no labels before.
	Served bool
}

// MaxBatch is the most operations in one batch. With 3 MiB an operation a batch is bounded by the door's message size, so
// this only bounds how much one request can keep the store busy: 1,000 operations take some 100 ms.
const MaxBatch = 1000

// Verbs returns what may be done with a resource.
func Verbs(r *registry.Resource) []string {
	if len(r.Verbs) > 0 {
		return r.Verbs
	}
	return []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
}
