package networking

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

func networkPolicies() *registry.Resource {
	return &registry.Resource{
		Kind: kind("NetworkPolicy"), Plural: "networkpolicies", Singular: "networkpolicy",
		ShortNames: []string{"netpol"},
		Namespaced: true, KeyPrefix: "/registry/networkpolicies/",
		New:     func() registry.Object { return &networkingv1.NetworkPolicy{} },
		NewList: func() runtime.Object { return &networkingv1.NetworkPolicyList{} },
		Strategy: registry.Strategy{
			Default:  registry.On(func(p *networkingv1.NetworkPolicy) { defaultPolicy(&p.Spec) }),
			Validate: registry.Checks(checkPolicy),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, p, _ *networkingv1.NetworkPolicy) {
				checkPolicy(e, p)
			}),
			ValidateName: apivalidation.NameIsDNSSubdomain,
			SpecChanged: registry.Differs(func(p, old *networkingv1.NetworkPolicy) bool {
				return !equality.Semantic.DeepEqual(p.Spec, old.Spec)
			}),

			AllowUnconditionalUpdate: true,
		},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.Text("Pod-Selector", networkingv1.NetworkPolicySpec{}.SwaggerDoc()["podSelector"],
				func(p *networkingv1.NetworkPolicy) string { return metav1.FormatLabelSelector(&p.Spec.PodSelector) }),
			registry.AgeColumn(),
		},
	}
}

func defaultPolicy(s *networkingv1.NetworkPolicySpec) {
	for _, rule := range s.Ingress {
		defaultPorts(rule.Ports)
	}
	for _, rule := range s.Egress {
		defaultPorts(rule.Ports)
	}
	if len(s.PolicyTypes) == 0 {
		s.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(s.Egress) > 0 {
			s.PolicyTypes = append(s.PolicyTypes, networkingv1.PolicyTypeEgress)
		}
	}
}

func defaultPorts(ports []networkingv1.NetworkPolicyPort) {
	for i := range ports {
		if ports[i].Protocol == nil {
			tcp := corev1.ProtocolTCP
			ports[i].Protocol = &tcp
		}
	}
}

func checkPolicy(e *check.Errors, p *networkingv1.NetworkPolicy) {
	s, at := &p.Spec, field.NewPath("spec")
	e.Selector(at.Child("podSelector"), &s.PodSelector)
	for i, rule := range s.Ingress {
		checkRule(e, rule.Ports, rule.From, at.Child("ingress").Index(i), "from")
	}
	for i, rule := range s.Egress {
		checkRule(e, rule.Ports, rule.To, at.Child("egress").Index(i), "to")
	}
	types := at.Child("policyTypes")
	if len(s.PolicyTypes) > 2 {
		e.Invalid(types, s.PolicyTypes, "may not specify more than two policyTypes")
		return
	}
	for i, t := range s.PolicyTypes {
		if t != networkingv1.PolicyTypeIngress && t != networkingv1.PolicyTypeEgress {
			e.Add(field.NotSupported(types.Index(i), t,
				[]networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}))
		}
	}
}

func checkRule(e *check.Errors, ports []networkingv1.NetworkPolicyPort, peers []networkingv1.NetworkPolicyPeer, at *field.Path, side string) {
	for i := range ports {
		checkPort(e, &ports[i], at.Child("ports").Index(i))
	}
	for i := range peers {
		checkPeer(e, &peers[i], at.Child(side).Index(i))
	}
}

func checkPort(e *check.Errors, p *networkingv1.NetworkPolicyPort, at *field.Path) {
	if pr := p.Protocol; pr != nil && *pr != corev1.ProtocolTCP && *pr != corev1.ProtocolUDP && *pr != corev1.ProtocolSCTP {
		e.Add(field.NotSupported(at.Child("protocol"), *pr,
			[]corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}))
	}
	if p.Port != nil {
		e.PortOrName(at.Child("port"), *p.Port)
	}
	if p.EndPort == nil {
		return
	}
	end := at.Child("endPort")
	switch {
	case p.Port == nil:
		e.Invalid(end, *p.EndPort, "may not be specified when `port` is not specified")
	case p.Port.Type == intstr.String:
		e.Invalid(end, *p.EndPort, "may not be specified when `port` is non-numeric")
	default:
		if *p.EndPort < p.Port.IntVal {
			// The value of the message is the port; that is how Kubernetes has it.
			e.Invalid(end, p.Port.IntVal, "must be greater than or equal to `port`")
		}
		e.Port(end, *p.EndPort)
	}
}

func checkPeer(e *check.Errors, p *networkingv1.NetworkPolicyPeer, at *field.Path) {
	selects := p.PodSelector != nil || p.NamespaceSelector != nil
	e.Selector(at.Child("podSelector"), p.PodSelector)
	e.Selector(at.Child("namespaceSelector"), p.NamespaceSelector)
	if p.IPBlock != nil {
		checkIPBlock(e, p.IPBlock, at.Child("ipBlock"))
	}
	switch {
	case !selects && p.IPBlock == nil:
		e.Required(at, "must specify a peer")
	case selects && p.IPBlock != nil:
		e.Forbidden(at, "may not specify both ipBlock and another peer")
	}
}

func checkIPBlock(e *check.Errors, b *networkingv1.IPBlock, at *field.Path) {
	if b.CIDR == "" {
		e.Required(at.Child("cidr"), "")
		return
	}
	e.CIDR(at.Child("cidr"), b.CIDR)
	_, whole, err := netutils.ParseCIDRSloppy(b.CIDR)
	if err != nil {
		return // Said above.
	}
	ones, _ := whole.Mask.Size()
	for i, text := range b.Except {
		except := at.Child("except").Index(i)
		e.CIDR(except, text)
		_, part, err := netutils.ParseCIDRSloppy(text)
		if err != nil {
			continue
		}
		if n, _ := part.Mask.Size(); !whole.Contains(part.IP) || n <= ones {
			e.Invalid(except, text, "must be a strict subset of `cidr`")
		}
	}
}
