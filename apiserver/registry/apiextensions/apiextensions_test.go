package apiextensions_test

import (
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/apiextensions"
	"bareboat.dev/apiserver/registry/kindtest"
)

const base = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, kind: CronTab}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {a: {type: string}}}
`

// schema is an edit of the base that gives its one version a schema.
func schema(text string) string {
	return "spec: {versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: " + text + "}}]}"
}

// version is an edit that adds to the one version.
func version(text string) string {
	return "spec: {versions: [{name: v1, served: true, storage: true, " + text +
		", schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {a: {type: string}, o: {type: object}}}}}}}]}"
}

func kind(t testing.TB) *registry.Resource {
	return kindtest.Kind(t, apiextensions.Resources(), "CustomResourceDefinition")
}

const label = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an " +
	"alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"

// New definitions are held to Kubernetes' rules, in Kubernetes' words.
func TestCreate(t *testing.T) {
	const props = "spec.validation.openAPIV3Schema.properties[spec]"
	kindtest.Create(t, kind(t), base, []kindtest.Case{
		{Name: "good"},
		{Name: "name", Edit: "metadata: {name: x.stable.example.com}", Want: []string{
			`metadata.name: Invalid value: "x.stable.example.com": must be spec.names.plural+"."+spec.group`}},
		{Name: "group without a dot", Edit: "{metadata: {name: crontabs.stable}, spec: {group: stable}}", Want: []string{
			`spec.group: Invalid value: "stable": should be a domain with at least one dot`}},
		{Name: "scope", Edit: "spec: {scope: Galaxy}", Want: []string{
			`spec.scope: Unsupported value: "Galaxy": supported values: "Cluster", "Namespaced"`}},
		{Name: "no scope", Edit: "spec: {scope: null}", Want: []string{"spec.scope: Required value"}},
		{Name: "kinds alike", Edit: "spec: {names: {listKind: CronTab}}", Want: []string{
			`spec.names.listKind: Invalid value: "CronTab": kind and listKind may not be the same`}},
		{Name: "short name", Edit: "spec: {names: {shortNames: [C_T]}}", Want: []string{
			`spec.names.shortNames[0]: Invalid value: "C_T": ` + label}},
		{Name: "protected group", Edit: "{metadata: {name: crontabs.x.k8s.io}, spec: {group: x.k8s.io}}", Want: []string{
			`metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation "api-approved.kubernetes.io", see https://github.com/kubernetes/enhancements/pull/1111`}},
		{Name: "approved", Edit: "{metadata: {name: crontabs.x.k8s.io, annotations: {api-approved.kubernetes.io: 'https://github.com/x'}}, spec: {group: x.k8s.io}}"},
		{Name: "unapproved", Edit: "{metadata: {name: crontabs.x.k8s.io, annotations: {api-approved.kubernetes.io: 'unapproved, a test'}}, spec: {group: x.k8s.io}}"},
		{Name: "no schema", Edit: "spec: {versions: [{name: v1, served: true, storage: true}]}", Want: []string{
			"spec.versions[0].schema.openAPIV3Schema: Required value"}},
		{Name: "two storage versions", Edit: `spec: {versions: [
			{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}, {name: v2, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]}`,
			Want: []string{"spec.versions: Invalid value: [{…", `status.storedVersions: Invalid value: ["v1"]: must have the storage version v2`}},
		{Name: "one version twice", Edit: `spec: {versions: [
			{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}, {name: v1, served: true, storage: false, schema: {openAPIV3Schema: {type: object}}}]}`,
			Want: []string{"spec.versions: Invalid value: [{…"}},
		{Name: "version's name", Edit: "spec: {versions: [{name: '1', served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]}", Want: []string{
			`spec.versions[0].name: Invalid value: "1": ` + label}},
		{Name: "keeping unknown fields", Edit: "spec: {preserveUnknownFields: true}", Want: []string{
			"spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"}},
		{Name: "deprecation", Edit: version("deprecationWarning: old"), Want: []string{
			`spec.versions[0].deprecationWarning: Invalid value: "old": can only be set for deprecated versions`}},
		{Name: "deprecated", Edit: version("deprecated: true, deprecationWarning: old")},
		// Columns, subresources, selectable fields.
		{Name: "column", Edit: version("additionalPrinterColumns: [{name: '', type: text, jsonPath: spec}]"), Want: []string{
			"spec.additionalPrinterColumns[0].name: Required value",
			`spec.additionalPrinterColumns[0].type: Invalid value: "text": must be one of boolean,date,integer,number,string`,
			`spec.additionalPrinterColumns[0].JSONPath: Invalid value: "spec": must be a simple json path starting with .`}},
		{Name: "scale", Edit: version("subresources: {scale: {specReplicasPath: .status.n, statusReplicasPath: ''}}"), Want: []string{
			`spec.subresources.scale.specReplicasPath: Invalid value: ".status.n": should be a json path under .spec`,
			"spec.subresources.scale.statusReplicasPath: Required value"}},
		{Name: "selectable without a schema", Edit: "spec: {versions: [{name: v1, served: true, storage: true, schema: {}, selectableFields: [{jsonPath: .spec.a}]}]}", Want: []string{
			"spec.versions[0].schema.openAPIV3Schema: Required value",
			`spec.selectableFields: Invalid value: "": may only be set when validations.schema is included`}},
		{Name: "selectable", Edit: version("selectableFields: [{jsonPath: .spec.a}, {jsonPath: .spec.o}, {jsonPath: .spec.zz}, {jsonPath: .spec.a}]"), Want: []string{
			`spec.selectableFields[1].jsonPath: Invalid value: ".spec.o": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.`,
			`spec.selectableFields[2].jsonPath: Invalid value: ".spec.zz": is an invalid path: does not refer to a valid field`,
			`spec.selectableFields[3].jsonPath: Duplicate value: ".spec.a"`}},
		// Schemas.
		{Name: "untyped", Edit: schema("{type: object, properties: {spec: {description: x}}}"), Want: []string{
			props + ".type: Required value: must not be empty for specified object fields"}},
		{Name: "type", Edit: schema("{type: object, properties: {spec: {type: text}}}"), Want: []string{
			props + `.type: Unsupported value: "text": supported values: "array", "boolean", "integer", "number", "object", "string"`}},
		{Name: "root", Edit: schema("{type: array, items: {type: string}}"), Want: []string{
			`spec.validation.openAPIV3Schema.type: Invalid value: "array": must be object at the root`}},
		{Name: "both properties", Edit: schema("{type: object, properties: {spec: {type: object, properties: {a: {type: string}}, additionalProperties: {type: string}}}}"), Want: []string{
			props + ".additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"}},
		{Name: "nullable root", Edit: schema("{type: object, nullable: true}"), Want: []string{
			"spec.validation.openAPIV3Schema.nullable: Forbidden: nullable cannot be true at the root"}},
		{Name: "wrong default", Edit: schema("{type: object, properties: {spec: {type: object, properties: {num: {type: integer, default: x}}}}}"), Want: []string{
			props + `.properties[num].default: Invalid value: "string": …`}},
		{Name: "default in the metadata", Edit: schema("{type: object, properties: {metadata: {type: object, properties: {name: {type: string, default: x}}}}}"), Want: []string{
			"spec.validation.openAPIV3Schema.properties[metadata].properties[name].default: Forbidden: must not be set in top-level metadata"}},
		{Name: "unique items", Edit: schema("{type: object, properties: {spec: {type: array, uniqueItems: true, items: {type: string}}}}"), Want: []string{
			props + ".uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic"}},
		{Name: "map without keys", Edit: schema("{type: object, properties: {spec: {type: array, x-kubernetes-list-type: map, items: {type: object, properties: {k: {type: string}}}}}}"), Want: []string{
			props + ".x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map"}},
		{Name: "optional key", Edit: schema("{type: object, properties: {spec: {type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [k], items: {type: object, properties: {k: {type: string}}}}}}"), Want: []string{
			props + ".items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"}},
		{Name: "set of objects", Edit: schema("{type: object, properties: {spec: {type: array, x-kubernetes-list-type: set, items: {type: object, properties: {k: {type: string}}}}}}"), Want: []string{
			props + ".items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set"}},
		{Name: "root with a status", Edit: `spec: {versions: [{name: v1, served: true, storage: true, subresources: {status: {}}, schema: {openAPIV3Schema: {type: object, minProperties: 1}}}]}`,
			Want: []string{"spec.validation.openAPIV3Schema: Invalid value: {…"}},
		// Rules.
		{Name: "rule", Edit: schema("{type: object, properties: {spec: {type: object, x-kubernetes-validations: [{rule: 'self.a == self.b'}], properties: {a: {type: string}}}}}"), Want: []string{
			props + ".x-kubernetes-validations[0].rule: Invalid value: {\"Rule\":\"self.a == self.b\",\"Message\":\"\",\"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}: compilation failed: ERROR: <input>:1:15: undefined field 'b'…"}},
		{Name: "empty rule", Edit: schema("{type: object, properties: {spec: {type: object, x-kubernetes-validations: [{rule: ' '}]}}}"), Want: []string{
			props + ".x-kubernetes-validations[0].rule: Required value: rule is not specified"}},
		{Name: "reason", Edit: schema("{type: object, properties: {spec: {type: object, x-kubernetes-validations: [{rule: 'true', reason: Because}]}}}"), Want: []string{
			props + `.x-kubernetes-validations[0].reason: Unsupported value: "Because": supported values: "FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"`}},
		{Name: "path of no field", Edit: schema("{type: object, properties: {spec: {type: object, x-kubernetes-validations: [{rule: 'true', fieldPath: .zz}]}}}"), Want: []string{
			props + `.x-kubernetes-validations[0].fieldPath: Invalid value: ".zz": must be a valid path`}},
		{Name: "dear rule", Edit: schema("{type: object, properties: {spec: {type: array, items: {type: string}, x-kubernetes-validations: [{rule: 'self.all(x, self.all(y, x == y))'}]}}}"), Want: []string{
			props + ".x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)",
			props + ".x-kubernetes-validations[0].rule: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema",
			"spec.validation.openAPIV3Schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"}},
		{Name: "bounded rule", Edit: schema("{type: object, properties: {spec: {type: array, maxItems: 10, items: {type: string, maxLength: 5}, x-kubernetes-validations: [{rule: 'self.all(x, self.all(y, x == y))'}]}}}")},
		{Name: "rule on what was", Edit: schema("{type: object, properties: {spec: {type: array, maxItems: 9, items: {type: string, maxLength: 9, x-kubernetes-validations: [{rule: 'self == oldSelf'}]}}}}"), Want: []string{
			props + `.items.x-kubernetes-validations[0].rule: Invalid value: "self == oldSelf": oldSelf cannot be used on the uncorrelatable portion of the schema within ` + props}},
		{Name: "optional without use", Edit: schema("{type: object, properties: {spec: {type: object, x-kubernetes-validations: [{rule: 'true', optionalOldSelf: true}]}}}"), Want: []string{
			props + ".x-kubernetes-validations[0].optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule"}},
		// Conversion.
		{Name: "strategy", Edit: "spec: {conversion: {strategy: Magic}}", Want: []string{
			`spec.conversion.strategy: Unsupported value: "Magic": supported values: "None", "Webhook"`}},
		{Name: "no client", Edit: "spec: {conversion: {strategy: Webhook, webhook: {conversionReviewVersions: [v1]}}}", Want: []string{
			"spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook"}},
		{Name: "plain HTTP", Edit: "spec: {conversion: {strategy: Webhook, webhook: {conversionReviewVersions: [v9], clientConfig: {url: 'http://x'}}}}", Want: []string{
			`spec.conversion.webhookClientConfig.url: Invalid value: "http": 'https' is the only allowed URL scheme; desired format: https://host[/path]`,
			`spec.conversion.conversionReviewVersions: Invalid value: ["v9"]: must include at least one of v1, v1beta1`}},
		{Name: "webhook", Edit: "spec: {conversion: {strategy: Webhook, webhook: {conversionReviewVersions: [v1], clientConfig: {service: {name: a, namespace: b}}}}}"},
	})
}

// An established definition keeps what its instances depend on, and what was accepted once may stay.
func TestUpdate(t *testing.T) {
	kindtest.Update(t, kind(t), base, []kindtest.Case{
		{Name: "same"},
		{Name: "more fields", Edit: schema("{type: object, properties: {spec: {type: object, properties: {a: {type: string}, b: {type: string}}}}}")},
		{Name: "scope before it is established", Edit: "spec: {scope: Cluster}"},
		{Name: "group", Edit: "spec: {group: other.example.com}", Want: []string{
			`spec.group: Invalid value: "other.example.com": field is immutable`}},
		{Name: "version that may be stored", Edit: "spec: {versions: [{name: v2, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]}", Want: []string{
			`status.storedVersions[0]: Invalid value: "v1": missing from spec.versions; v1 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes v1 from status.storedVersions`}},
	})
	r := kind(t)
	old := kindtest.Decode(t, r, base).(*v1.CustomResourceDefinition)
	r.Strategy.Default(old)
	r.Strategy.PrepareCreate(old)
	apiextensions.SetCondition(old, v1.CustomResourceDefinitionCondition{Type: v1.Established, Status: v1.ConditionTrue}, metav1.Now())
	changed := old.DeepCopy()
	changed.Spec.Scope, changed.Spec.Names.Kind = v1.ClusterScoped, "Other"
	errs := r.Strategy.ValidateUpdate(changed, old)
	if len(errs) != 2 || errs[0].Field != "spec.scope" || errs[1].Field != "spec.names.kind" {
		t.Errorf("changing scope and kind of an established definition: %v", errs)
	}
}

// Defaults are Kubernetes', and the storage version is remembered from the beginning.
func TestDefaults(t *testing.T) {
	r := kind(t)
	d := kindtest.Decode(t, r, base).(*v1.CustomResourceDefinition)
	r.Strategy.Default(d)
	if d.Spec.Names.Singular != "crontab" || d.Spec.Names.ListKind != "CronTabList" || d.Spec.Conversion.Strategy != v1.NoneConverter {
		t.Errorf("names %+v, conversion %+v", d.Spec.Names, d.Spec.Conversion)
	}
	if !slices.Equal(d.Status.StoredVersions, []string{"v1"}) {
		t.Errorf("stored versions %v", d.Status.StoredVersions)
	}
}

// Formats that mean nothing and sets of objects are warned of, once each, and again only if they are new.
func TestWarnings(t *testing.T) {
	r := kind(t)
	edit := schema("{type: object, properties: {a: {type: string, format: nonsense}, b: {type: string, format: nonsense}}}")
	d := kindtest.Decode(t, r, kindtest.Edit(t, base, edit))
	if got := r.Strategy.Warnings(d); len(got) != 1 || !strings.Contains(got[0], `unrecognized format "nonsense"`) {
		t.Errorf("warnings %q", got)
	}
	if got := r.Strategy.ChangeWarnings(d, d); len(got) != 0 {
		t.Errorf("warnings of a change that changes nothing: %q", got)
	}
}

// A deletion marks the definition and holds it with a finalizer until its instances have gone.
func TestDeletion(t *testing.T) {
	r := kind(t)
	d := kindtest.Decode(t, r, base).(*v1.CustomResourceDefinition)
	if !r.Strategy.Held(d) {
		t.Error("a definition would go at once")
	}
	now := metav1.Now()
	d.DeletionTimestamp = &now
	r.Strategy.MarkDeleted(d)
	if !slices.Contains(d.Finalizers, v1.CustomResourceCleanupFinalizer) || !apiextensions.Is(d, v1.Terminating) || r.Strategy.Held(d) {
		t.Errorf("finalizers %v, conditions %+v", d.Finalizers, d.Status.Conditions)
	}
}
