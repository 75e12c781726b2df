// Package hooks asks admission webhooks: servers that the cluster's users run and that change or refuse writes
// (https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/).
//
// Mutating webhooks are asked one after the other, each about what the ones before it have made of the object; if one of them has changed
// something, all mutations run once more, and of the webhooks those that wish it. Validating webhooks are asked at the same time, about the
// object as it is to be stored. Which webhooks there are is worked out once for each change of their configurations: a write that none
// selects costs a few comparisons, and nothing while there are none.
package hooks
