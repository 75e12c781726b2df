package expression

import (
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/cel/common"
)

// Input is what expressions see of a write. It is for one write and not safe for concurrent use: values are looked at as they are needed.
type Input struct {
	object, oldObject, params, request, namespace ref.Val
	authorizer, requestResource                   ref.Val
}

// NewInput wraps a write; objects may be nil.
func NewInput(request *admissionv1.AdmissionRequest, object, oldObject runtime.Object, namespace *corev1.Namespace) *Input {
	in := &Input{object: value(object), oldObject: value(oldObject), params: types.NullValue, request: common.SchemalessTypedToVal(request), namespace: types.NullValue}
	if namespace != nil {
		in.namespace = common.SchemalessTypedToVal(visible(namespace))
	}
	return in
}

// visible is the part of a namespace that expressions may see.
func visible(n *corev1.Namespace) *corev1.Namespace {
	v := &corev1.Namespace{Spec: n.Spec, Status: n.Status}
	v.Name, v.GenerateName, v.Namespace, v.UID, v.ResourceVersion, v.Generation = n.Name, n.GenerateName, n.Namespace, n.UID, n.ResourceVersion, n.Generation
	v.Labels, v.Annotations, v.Finalizers = n.Labels, n.Annotations, n.Finalizers
	v.CreationTimestamp, v.DeletionTimestamp, v.DeletionGracePeriodSeconds = n.CreationTimestamp, n.DeletionTimestamp, n.DeletionGracePeriodSeconds
	return v
}

func value(obj runtime.Object) ref.Val {
	if obj == nil {
		return types.NullValue
	}
	if u, ok := obj.(runtime.Unstructured); ok {
		return common.SchemalessTypedToVal(u.UnstructuredContent())
	}
	return common.SchemalessTypedToVal(obj)
}

// WithParams returns the input with another object as "params".
func (in *Input) WithParams(params runtime.Object) *Input {
	out := *in
	out.params = value(params)
	return &out
}

// activation is an input and the variables of one evaluation.
type activation struct {
	*Input
	variables any
}

// ResolveName implements interpreter.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	switch name {
	case "object":
		return a.object, true
	case "oldObject":
		return a.oldObject, true
	case "params":
		return a.params, true
	case "request":
		return a.request, true
	case "namespaceObject":
		return a.namespace, true
	case authorizerName:
		return a.authorizer, a.authorizer != nil
	case authorizerName + ".requestResource":
		return a.requestResource, a.requestResource != nil
	case "variables":
		return a.variables, a.variables != nil
	}
	return nil, false
}

// Parent implements interpreter.Activation.
func (a *activation) Parent() interpreter.Activation { return nil }
