// Package patch changes objects as the four patch types ask: JSON patch (RFC 6902), JSON merge patch (RFC 7396), Kubernetes'
// strategic merge patch, and server-side apply (KEP-555); and keeps metadata.managedFields, which the last one needs.
//
//	after, err := patch.JSON(before, body)              // before and after are JSON texts
//	fields := patch.NewFields(set)
//	obj, warnings, err := fields.Apply(resource, "", live, body, patch.ApplyOptions{Manager: "kubectl"})
//	err = fields.Track(resource, "", obj, old, "kubectl-edit")   // after every other change
//
// Errors are *apierrors.StatusError with kube-apiserver's reason, code and wording. Inputs are bounded: by codec.MaxBody, by
// codec's limits on nesting and lists, by MaxOperations, and by what copies may add.
package patch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	jsonpatch "github.com/evanphx/json-patch/v5"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"bareboat.dev/apiserver/registry/codec"
)

// MaxOperations is the most operations in one JSON patch, kube-apiserver's limit.
const MaxOperations = 10_000

// JSON applies an RFC 6902 patch to a JSON text.
func JSON(before, patch []byte) ([]byte, error) {
	if err := codec.Bounded(codec.JSON, patch); err != nil {
		return nil, err
	}
	operations, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if len(operations) > MaxOperations {
		return nil, apierrors.NewRequestEntityTooLargeError(
			fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", MaxOperations, len(operations)))
	}
	options := jsonpatch.NewApplyOptions()
	// Copies of copies double an object with every operation.
	options.AccumulatedCopySizeLimit = codec.MaxBody
	after, err := operations.ApplyWithOptions(before, options)
	if err != nil {
		return nil, unprocessable(err)
	}
	return bounded(after)
}

// Merge applies an RFC 7396 patch to a JSON text.
func Merge(before, patch []byte) ([]byte, error) {
	if err := codec.Bounded(codec.JSON, patch); err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(bytes.TrimLeft(patch, " \t\r\n"), []byte("{")) {
		return nil, notAnObject(patch)
	}
	after, err := jsonpatch.MergePatch(before, patch)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return bounded(after)
}

// notAnObject words the refusal of patches that are no JSON object as encoding/json does.
func notAnObject(patch []byte) error {
	err := json.Unmarshal(patch, &map[string]any{})
	if err == nil { // null
		err = errors.New("the patch is not a JSON object")
	}
	return apierrors.NewBadRequest(err.Error())
}

// StrategicMerge applies a strategic merge patch to the JSON text of an object of like's type, by that type's merge keys.
func StrategicMerge(before, patch []byte, like runtime.Object) ([]byte, error) {
	if err := codec.Bounded(codec.JSON, patch); err != nil {
		return nil, err
	}
	var original, change map[string]any
	if err := json.Unmarshal(before, &original); err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	if err := json.Unmarshal(patch, &change); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	after, err := strategicMerge(original, change, like)
	if err != nil {
		return nil, strategicError(err)
	}
	text, err := json.Marshal(after)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return bounded(text)
}

// strategicMerge holds the library, which was written for well-formed patches, to returning errors.
func strategicMerge(original, change map[string]any, like runtime.Object) (after map[string]any, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", mergepatch.ErrUnsupportedStrategicMergePatchFormat, r)
		}
	}()
	return strategicpatch.StrategicMergeMapPatch(original, change, like)
}

func strategicError(err error) error {
	unsupported := []error{mergepatch.ErrNoListOfLists, mergepatch.ErrUnsupportedStrategicMergePatchFormat}
	if slices.ContainsFunc(unsupported, func(target error) bool { return errors.Is(err, target) }) {
		return unprocessable(err)
	}
	return apierrors.NewBadRequest(err.Error())
}

// unprocessable is what kube-apiserver says of patches that are well-formed and do not fit the object.
func unprocessable(err error) error {
	return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
}

func bounded(after []byte) ([]byte, error) {
	if len(after) > codec.MaxBody {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", codec.MaxBody))
	}
	return after, nil
}
