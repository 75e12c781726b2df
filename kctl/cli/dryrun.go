package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/anypb"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"bareboat.dev/kctl/api"
	"bareboat.dev/kctl/output"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// dryRun says how far a write goes.
type dryRun string

const (
	// dryNone is a write that is stored.
	dryNone dryRun = "none"
	// dryServer is a write that the server checks in full and does not store.
	dryServer dryRun = "server"
	// dryClient is a write that is not sent; what would be is printed.
	dryClient dryRun = "client"
)

// Set implements pflag.Value.
func (d *dryRun) Set(word string) error {
	switch v := dryRun(word); v {
	case dryNone, dryServer, dryClient:
		*d = v
		return nil
	}
	return fmt.Errorf(`invalid dry-run value (%s). Must be "none", "server", or "client"`, word)
}

// String implements pflag.Value.
func (d *dryRun) String() string { return string(*d) }

// Type implements pflag.Value.
func (d *dryRun) Type() string { return "string" }

// register adds --dry-run; without a value it is the server's, which tells more.
func (d *dryRun) register(f *pflag.FlagSet) {
	*d = dryNone
	f.Var(d, "dry-run", "none, server: run every check and store nothing, or client: send nothing")
	f.Lookup("dry-run").NoOptDefVal = string(dryServer)
}

// suffix is what kubectl adds to its messages.
func (d dryRun) suffix() string {
	switch d {
	case dryServer:
		return " (server dry run)"
	case dryClient:
		return " (dry run)"
	}
	return ""
}

// writing is how a command writes: how far, as whom, and how it prints the outcome.
type writing struct {
	printing
	dry     dryRun
	manager string
}

func (w *writing) register(f *pflag.FlagSet) {
	w.dry.register(f)
	f.StringVar(&w.manager, "field-manager", fieldManager, "`name` of the writer in managed fields")
	w.printing.register(f, "print the result instead of a line: "+output.Formats)
}

// wire is what the server is asked for.
func (w writing) wire() *apiv1.WriteOptions {
	return &apiv1.WriteOptions{FieldManager: w.manager, DryRun: w.dry == dryServer}
}

// done prints what became of an object.
func (s *session) done(t target, verb string, w writing, obj *anypb.Any) error {
	return s.result(t, verb+w.dry.suffix(), w.printing, obj)
}

// change patches an object, or with --dry-run=client a copy of it, and returns what it has become.
func (s *session) change(ctx context.Context, req *apiv1.PatchRequest, t target, w writing) (obj *anypb.Any, unchanged bool, err error) {
	if w.dry == dryClient {
		obj, err := s.changeCopy(ctx, req, t)
		return obj, false, err
	}
	req.Options = w.wire()
	resp, err := s.server.Patch(ctx, req)
	if err != nil {
		return nil, false, err
	}
	return resp.Object, resp.Unchanged, nil
}

// changeCopy applies a patch to a copy of the object.
func (s *session) changeCopy(ctx context.Context, req *apiv1.PatchRequest, t target) (*anypb.Any, error) {
	live, err := s.server.Get(ctx, t.info, t.namespace, t.name)
	if err != nil {
		return nil, err
	}
	before, err := json.Marshal(live.Object)
	if err != nil {
		return nil, err
	}
	after, err := patched(before, req.Patch, req.Type, t.info)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t, err)
	}
	return api.Body(runtime.ContentTypeJSON, after)
}

// patched applies a patch as the server would, without its checks.
func patched(object, patch []byte, kind apiv1.PatchRequest_Type, info *apiv1.ResourceInfo) ([]byte, error) {
	switch kind {
	case apiv1.PatchRequest_TYPE_MERGE:
		return jsonpatch.MergePatch(object, patch)
	case apiv1.PatchRequest_TYPE_JSON:
		ops, err := jsonpatch.DecodePatch(patch)
		if err != nil {
			return nil, err
		}
		return ops.Apply(object)
	}
	typed, err := api.NewObject(api.GVK(info))
	if err != nil {
		return nil, fmt.Errorf("a strategic merge patch needs a built-in kind, use --type=merge: %w", err)
	}
	return strategicpatch.StrategicMergePatch(object, patch, typed)
}

// offlineKind is a kind as a command that sends nothing knows it, so that it needs no server.
func offlineKind(u *unstructured.Unstructured, namespaced bool) *apiv1.ResourceInfo {
	gvk := u.GroupVersionKind()
	return &apiv1.ResourceInfo{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind, Singular: strings.ToLower(gvk.Kind), Namespaced: namespaced}
}
