// Package policies holds writes to admission policies: CEL expressions that refuse (ValidatingAdmissionPolicy) or change
// (MutatingAdmissionPolicy) what their bindings select (https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/).
//
// Policies are compiled once for each of their changes. What an evaluation may cost is bounded, per binding and parameter object, and so is
// what it may say.
package policies
