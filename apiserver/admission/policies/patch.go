package policies

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"google.golang.org/protobuf/types/known/structpb"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apiserver/pkg/cel/mutation"
	"k8s.io/apiserver/pkg/cel/mutation/dynamic"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	smd "sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"bareboat.dev/apiserver/admission/match"
)

func sameJSON(a, b []byte) bool { return jsonpatch.Equal(a, b) }

// operation is one operation of a JSON patch (RFC 6902).
type operation struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	From  string          `json:"from,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
}

// applyPatch applies a list of JSONPatch values. A test that fails leaves the object as it is.
func applyPatch(before []byte, list ref.Val) ([]byte, error) {
	lister, ok := list.(traits.Lister)
	if !ok {
		return nil, errors.New("type mismatch: JSONPatchType.expression should evaluate to array")
	}
	var operations []operation
	for it := lister.Iterator(); it.HasNext() == types.True; {
		op, err := toOperation(it.Next())
		if err != nil {
			return nil, err
		}
		operations = append(operations, op)
	}
	text, err := json.Marshal(operations)
	if err != nil {
		return nil, err
	}
	patch, err := jsonpatch.DecodePatch(text)
	if err != nil {
		return nil, fmt.Errorf("JSON Patch: %w", err)
	}
	after, err := match.Patch(before, patch)
	if errors.Is(err, jsonpatch.ErrTestFailed) {
		return before, nil
	}
	if err != nil {
		return nil, fmt.Errorf("JSON Patch: %w", err)
	}
	return after, nil
}

func toOperation(v ref.Val) (operation, error) {
	native, err := v.ConvertToNative(reflect.TypeFor[*mutation.JSONPatchVal]())
	p, ok := native.(*mutation.JSONPatchVal)
	if err != nil || !ok {
		return operation{}, fmt.Errorf("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch, got element of %v", v.Type())
	}
	op := operation{Op: p.Op, Path: p.Path, From: p.From}
	if p.Val == nil {
		return op, nil
	}
	if object, ok := p.Val.(*dynamic.ObjectVal); ok {
		if err := object.CheckTypeNamesMatchFieldPathNames(); err != nil {
			return op, fmt.Errorf("type mismatch: %w", err)
		}
	}
	plain, err := p.Val.ConvertToNative(reflect.TypeFor[*structpb.Value]())
	if err == nil {
		op.Value, err = json.Marshal(plain)
	}
	if err != nil {
		return op, fmt.Errorf("JSONPath valueExpression evaluated to a type that could not marshal to JSON: %w", err)
	}
	return op, nil
}

// applyConfiguration merges an Object value into an object, as server-side apply would, and returns the outcome as JSON. Lists and maps
// that are one value must not be in it: what it leaves out of them would be lost.
func applyConfiguration(converter managedfields.TypeConverter, object runtime.Object, kind schema.GroupVersionKind, v ref.Val) ([]byte, error) {
	config, ok := v.(*dynamic.ObjectVal)
	if !ok {
		return nil, fmt.Errorf("unsupported return type from ApplyConfiguration expression: %v", v.Type())
	}
	if err := config.CheckTypeNamesMatchFieldPathNames(); err != nil {
		return nil, fmt.Errorf("type mismatch: %w", err)
	}
	content, ok := config.Value().(map[string]any)
	if !ok {
		return nil, fmt.Errorf("invalid return type: %T", v)
	}
	change := &unstructured.Unstructured{Object: content}
	change.SetGroupVersionKind(kind)
	typedChange, err := converter.ObjectToTyped(change)
	if err != nil {
		return nil, fmt.Errorf("error applying patch: failed to convert patch object to typed object: %w", err)
	}
	if found := atomics(nil, typedChange.Schema(), typedChange.TypeRef(), typedChange.AsValue()); len(found) > 0 {
		return nil, fmt.Errorf("error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: %v", strings.Join(found, ", "))
	}
	live, err := converter.ObjectToTyped(object, typed.AllowDuplicates)
	if err != nil {
		return nil, fmt.Errorf("error applying patch: failed to convert original object to typed object: %w", err)
	}
	merged, err := live.Merge(typedChange)
	if err != nil {
		return nil, fmt.Errorf("error applying patch: failed to merge patch: %w", err)
	}
	return json.Marshal(merged.AsValue().Unstructured())
}

// atomics lists the paths of a value at which there are lists or maps that are one value.
func atomics(path fieldpath.Path, s *smd.Schema, t smd.TypeRef, v value.Value) (found []string) {
	a, ok := s.Resolve(t)
	if !ok {
		return nil
	}
	if v.IsMap() && a.Map != nil {
		if a.Map.ElementRelationship == smd.Atomic {
			return []string{path.String()}
		}
		v.AsMap().Iterate(func(key string, child value.Value) bool {
			of := a.Map.ElementType
			if f, ok := a.Map.FindField(key); ok {
				of = f.Type
			}
			found = append(found, atomics(append(path.Copy(), fieldpath.PathElement{FieldName: &key}), s, of, child)...)
			return true
		})
	}
	if v.IsList() && a.List != nil {
		if a.List.ElementRelationship == smd.Atomic {
			return []string{path.String()}
		}
		for i := range v.AsList().Length() {
			found = append(found, atomics(append(path.Copy(), fieldpath.PathElement{Index: &i}), s, a.List.ElementType, v.AsList().At(i))...)
		}
	}
	return found
}
