package client

import (
	"google.golang.org/protobuf/types/known/wrapperspb"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// Revision counts the store's commits; a resource version is one in decimal. Revisions of one cluster are comparable,
// whatever the kind or endpoint.
type Revision = int64

// ReadOption changes how Get reads.
type ReadOption func(*apiv1.GetRequest)

// At reads the object as it was at exactly rev; apierrors.IsResourceExpired if that is compacted.
func At(rev Revision) ReadOption {
	return func(r *apiv1.GetRequest) {
		r.ResourceVersion = formatRevision(rev)
		r.VersionMatch = apiv1.VersionMatch_VERSION_MATCH_EXACT
	}
}

// ListOptions select what a list returns. The zero value is everything, quorum-fresh.
type ListOptions struct {
	// LabelSelector and FieldSelector are in Kubernetes' syntax; empty selects everything.
	LabelSelector, FieldSelector string
	// ResourceVersion in decimal; empty for a quorum-fresh read.
	ResourceVersion string
	// Exact reads exactly ResourceVersion instead of anything not older.
	Exact bool
	// Limit is the most objects to return, 0 for all; see ListPage.
	Limit int64
	// Continue goes on with an earlier limited list.
	Continue string
}

func (o ListOptions) request(ref *apiv1.ResourceRef) *apiv1.ListRequest {
	req := &apiv1.ListRequest{
		Ref: ref, LabelSelector: o.LabelSelector, FieldSelector: o.FieldSelector,
		ResourceVersion: o.ResourceVersion, Limit: o.Limit, Continue: o.Continue,
	}
	if o.Exact {
		req.VersionMatch = apiv1.VersionMatch_VERSION_MATCH_EXACT
	}
	return req
}

// WatchOptions select what a watch sends.
type WatchOptions struct {
	LabelSelector, FieldSelector string
	// From is the revision after which events are wanted; 0 starts with a fresh snapshot as Added events.
	From Revision
	// InitialEvents asks for the snapshot explicitly, ended by a Bookmark event with InitialEnd set (KEP-3157).
	InitialEvents bool
	// Bookmarks asks for Bookmark events now and then while nothing matches.
	Bookmarks bool
}

// WriteOption changes how Create, Update and UpdateStatus write.
type WriteOption func(*apiv1.WriteOptions)

// DryRun runs the whole chain and persists nothing.
func DryRun() WriteOption { return func(o *apiv1.WriteOptions) { o.DryRun = true } }

// FieldManager names the writer for managed fields.
func FieldManager(name string) WriteOption {
	return func(o *apiv1.WriteOptions) { o.FieldManager = name }
}

func writeOptions(opts []WriteOption) *apiv1.WriteOptions {
	if len(opts) == 0 {
		return nil
	}
	o := &apiv1.WriteOptions{}
	for _, f := range opts {
		f(o)
	}
	return o
}

// PatchType is how a patch is written.
type PatchType = apiv1.PatchRequest_Type

// The patch types.
const (
	// JSONPatch is RFC 6902.
	JSONPatch PatchType = apiv1.PatchRequest_TYPE_JSON
	// MergePatch is RFC 7396.
	MergePatch PatchType = apiv1.PatchRequest_TYPE_MERGE
	// StrategicMergePatch merges lists by the types' own merge keys.
	StrategicMergePatch PatchType = apiv1.PatchRequest_TYPE_STRATEGIC_MERGE
	// ApplyPatch is server-side apply (KEP-555); the data is the applied configuration in YAML or JSON.
	ApplyPatch PatchType = apiv1.PatchRequest_TYPE_APPLY
)

// PatchOptions change how Patch writes.
type PatchOptions struct {
	// Subresource to patch, e.g. "status"; empty for the object itself.
	Subresource string
	// FieldManager names the writer; required with ApplyPatch.
	FieldManager string
	// Force takes over fields that other managers own, with ApplyPatch.
	Force bool
	// DryRun persists nothing.
	DryRun bool
}

// Propagation says what becomes of an object's dependents.
type Propagation = apiv1.Propagation

// The propagation policies; the zero value is the kind's default.
const (
	PropagateOrphan     Propagation = apiv1.Propagation_PROPAGATION_ORPHAN
	PropagateBackground Propagation = apiv1.Propagation_PROPAGATION_BACKGROUND
	PropagateForeground Propagation = apiv1.Propagation_PROPAGATION_FOREGROUND
)

// DeleteOptions change how Delete deletes. The zero value is the kind's defaults.
type DeleteOptions struct {
	// GracePeriodSeconds until the object is removed; nil for the kind's default, 0 for now.
	GracePeriodSeconds *int64
	Propagation        Propagation
	// UID and ResourceVersion are preconditions: apierrors.IsConflict unless the object has them.
	UID, ResourceVersion string
	DryRun               bool
}

func (o DeleteOptions) wire() *apiv1.DeleteOptions {
	w := &apiv1.DeleteOptions{Propagation: o.Propagation, Uid: o.UID, ResourceVersion: o.ResourceVersion, DryRun: o.DryRun}
	if o.GracePeriodSeconds != nil {
		w.GracePeriodSeconds = wrapperspb.Int64(*o.GracePeriodSeconds)
	}
	return w
}
