package expression

import (
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types/traits"
	apicel "k8s.io/apiserver/pkg/cel"
)

// field is a field of a type that expressions see; optional ones need has().
type field struct {
	name     string
	kind     *apicel.DeclType
	optional bool
}

func object(name string, fields ...field) *apicel.DeclType {
	m := make(map[string]*apicel.DeclField, len(fields))
	for _, f := range fields {
		m[f.name] = apicel.NewDeclField(f.name, f.kind, !f.optional, nil, nil)
	}
	return apicel.NewObjectType(name, m)
}

func listOf(t *apicel.DeclType) *apicel.DeclType { return apicel.NewListType(t, -1) }
func mapOf(t *apicel.DeclType) *apicel.DeclType  { return apicel.NewMapType(apicel.StringType, t, -1) }

// requestType is "request": an AdmissionRequest without its uid and objects.
func requestType() *apicel.DeclType {
	text := apicel.StringType
	kind := object("kubernetes.GroupVersionKind", field{name: "group", kind: text}, field{name: "version", kind: text}, field{name: "kind", kind: text})
	resource := object("kubernetes.GroupVersionResource", field{name: "group", kind: text}, field{name: "version", kind: text}, field{name: "resource", kind: text})
	user := object("kubernetes.UserInfo", field{"username", text, true}, field{"uid", text, true}, field{"groups", listOf(text), true}, field{"extra", mapOf(listOf(text)), true})
	return object("kubernetes.AdmissionRequest",
		field{name: "kind", kind: kind}, field{name: "resource", kind: resource}, field{"subResource", text, true},
		field{name: "requestKind", kind: kind}, field{name: "requestResource", kind: resource}, field{"requestSubResource", text, true},
		field{name: "name", kind: text}, field{"namespace", text, true}, field{name: "operation", kind: text}, field{name: "userInfo", kind: user},
		field{"dryRun", apicel.BoolType, true}, field{"options", apicel.DynType, true},
	)
}

// namespaceType is "namespaceObject".
func namespaceType() *apicel.DeclType {
	text, number, instant := apicel.StringType, apicel.IntType, apicel.TimestampType
	condition := object("kubernetes.NamespaceCondition", field{name: "status", kind: text}, field{name: "type", kind: text},
		field{name: "lastTransitionTime", kind: instant}, field{name: "message", kind: text}, field{name: "reason", kind: text})
	metadata := object("kubernetes.NamespaceMetadata",
		field{name: "name", kind: text}, field{name: "generateName", kind: text}, field{name: "namespace", kind: text}, field{name: "UID", kind: text},
		field{name: "labels", kind: mapOf(text)}, field{name: "annotations", kind: mapOf(text)}, field{name: "finalizers", kind: listOf(text)},
		field{name: "creationTimestamp", kind: instant}, field{name: "deletionTimestamp", kind: instant}, field{name: "deletionGracePeriodSeconds", kind: number},
		field{name: "generation", kind: number}, field{name: "resourceVersion", kind: text})
	return object("kubernetes.Namespace", field{name: "metadata", kind: metadata},
		field{name: "spec", kind: object("kubernetes.NamespaceSpec", field{name: "finalizers", kind: listOf(text)})},
		field{name: "status", kind: object("kubernetes.NamespaceStatus", field{name: "conditions", kind: listOf(condition)}, field{name: "phase", kind: text})})
}

// declType is a CEL type as environments declare one, as far as it matters to those who use a variable of it.
func declType(t *cel.Type) *apicel.DeclType {
	for known, decl := range map[*cel.Type]*apicel.DeclType{
		cel.AnyType: apicel.AnyType, cel.BoolType: apicel.BoolType, cel.BytesType: apicel.BytesType, cel.DoubleType: apicel.DoubleType,
		cel.DurationType: apicel.DurationType, cel.IntType: apicel.IntType, cel.NullType: apicel.NullType, cel.StringType: apicel.StringType,
		cel.TimestampType: apicel.TimestampType, cel.UintType: apicel.UintType,
	} {
		if t == known {
			return decl
		}
	}
	if t.HasTrait(traits.ContainerType) && t.HasTrait(traits.IndexerType) {
		switch p := t.Parameters(); len(p) {
		case 1:
			return apicel.NewListType(declType(p[0]), -1)
		case 2:
			return apicel.NewMapType(declType(p[0]), declType(p[1]), -1)
		}
	}
	return apicel.DynType
}

// JSONPatchType is what an expression returns whose value is a JSON patch: [JSONPatch{…}, …].
func JSONPatchType() *cel.Type { return cel.ListType(cel.ObjectType("JSONPatch")) }

// ApplyType is what an expression returns whose value is an apply configuration: Object{…}.
func ApplyType() *cel.Type { return cel.ObjectType("Object") }
