// Package policy decides what NetworkPolicies mean for the pods of one node.
//
// It is pure, as package plan is: policies, pods and namespaces go in, a plain value that prints and compares comes out.
//
//	rules := policy.Build(policy.Input{Policies: policies, Pods: pods, Namespaces: namespaces, Node: name, Family: plan.IPv4})
//	fmt.Print(rules)
//
// # Decisions taken here
//
//   - A pod is isolated for a direction by every policy that selects it and has that type; what any of them allows is
//     allowed, all else is not. Policies without types isolate for ingress, and for egress if they have egress rules.
//   - Pods on the host's network are not subject to policies, and match no peer: their traffic is the host's. Pods that
//     have ended, or have no address yet, do not exist.
//   - Traffic between a pod and its own node is not the packet filter's business (the API says that it is always allowed);
//     whoever applies the rules looks at forwarded packets only.
//   - A named port is looked up in the pod that the traffic goes to.
//   - Policies and pods are grouped by content: pods under the same rules share a chain, peers selected alike share a set.
//     A pod that comes or goes changes elements of sets; chains change only with policies.
package policy
