package runspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// hostnameMax is the longest name that the kernel takes for a host, 64 bytes with the terminating zero (uname(2)).
const hostnameMax = 63

// Hostname is the pod's host name and domain: hostnameOverride or hostname or the pod's name, and
// subdomain.namespace.svc.clusterDomain if the pod has a subdomain. fqdn is what the kernel is told if setHostnameAsFQDN.
func Hostname(p *corev1.Pod, clusterDomain string) (host, domain string) {
	if p.Spec.HostnameOverride != nil {
		return *p.Spec.HostnameOverride, ""
	}
	host = p.Name
	if p.Spec.Hostname != "" {
		host = p.Spec.Hostname
	}
	if len(host) > hostnameMax {
		host = strings.TrimRight(host[:hostnameMax], "-.")
	}
	if p.Spec.Subdomain != "" {
		domain = fmt.Sprintf("%s.%s.svc.%s", p.Spec.Subdomain, p.Namespace, clusterDomain)
	}
	return host, domain
}

// KernelHostname is what gethostname(2) returns in the pod.
func KernelHostname(p *corev1.Pod, clusterDomain string) (string, error) {
	host, domain := Hostname(p, clusterDomain)
	if domain == "" || !isTrue(p.Spec.SetHostnameAsFQDN) {
		return host, nil
	}
	fqdn := host + "." + domain
	if len(fqdn) > hostnameMax+1 {
		return "", configf("failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (64 characters is the max, %d characters requested)", fqdn, len(fqdn))
	}
	return fqdn, nil
}

// HostsFile is the pod's /etc/hosts: its own addresses and names, and hostAliases. In the host's network it is the host's
// file with the aliases added.
func HostsFile(p *corev1.Pod, ips []string, host, domain string, hostFile []byte) []byte {
	var b strings.Builder
	if p.Spec.HostNetwork {
		b.WriteString("# Kubernetes-managed hosts file (host network).\n")
		b.Write(hostFile)
	} else {
		b.WriteString("# Kubernetes-managed hosts file.\n")
		b.WriteString("127.0.0.1\tlocalhost\n")
		b.WriteString("::1\tlocalhost ip6-localhost ip6-loopback\n")
		b.WriteString("fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
		for _, ip := range ips {
			if domain != "" {
				fmt.Fprintf(&b, "%s\t%s.%s\t%s\n", ip, host, domain, host)
			} else {
				fmt.Fprintf(&b, "%s\t%s\n", ip, host)
			}
		}
	}
	if len(p.Spec.HostAliases) > 0 {
		b.WriteString("\n# Entries added by HostAliases.\n")
		for _, a := range p.Spec.HostAliases {
			fmt.Fprintf(&b, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
		}
	}
	return []byte(b.String())
}

// DNS is what a resolver needs to know.
type DNS struct {
	Servers, Searches, Options []string
}

// ParseResolvConf reads resolv.conf(5).
func ParseResolvConf(data []byte) DNS {
	var d DNS
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			d.Servers = append(d.Servers, f[1])
		case "search", "domain":
			d.Searches = f[1:]
		case "options":
			d.Options = append(d.Options, f[1:]...)
		}
	}
	return d
}

// Limits of a resolver configuration, as the API validates them.
const (
	maxServers  = 3
	maxSearches = 32
)

// PodDNS is a pod's resolver configuration, by its dnsPolicy and dnsConfig. host is the node's own.
func PodDNS(p *corev1.Pod, host DNS, clusterDNS []string, clusterDomain string) DNS {
	policy := p.Spec.DNSPolicy
	if policy == corev1.DNSClusterFirst && p.Spec.HostNetwork || policy == "" && p.Spec.HostNetwork || len(clusterDNS) == 0 && policy != corev1.DNSNone {
		policy = corev1.DNSDefault
	}
	var d DNS
	switch policy {
	case corev1.DNSNone:
	case corev1.DNSDefault:
		d = DNS{slices.Clone(host.Servers), slices.Clone(host.Searches), slices.Clone(host.Options)}
	default:
		d.Servers = slices.Clone(clusterDNS)
		if clusterDomain != "" {
			d.Searches = []string{p.Namespace + ".svc." + clusterDomain, "svc." + clusterDomain, clusterDomain}
		}
		d.Searches = append(d.Searches, host.Searches...)
		d.Options = []string{"ndots:5"}
	}
	if c := p.Spec.DNSConfig; c != nil {
		d.Servers = unique(append(d.Servers, c.Nameservers...))
		d.Searches = unique(append(d.Searches, c.Searches...))
		d.Options = mergeOptions(d.Options, c.Options)
	}
	d.Searches = unique(d.Searches)
	return DNS{d.Servers[:min(len(d.Servers), maxServers)], d.Searches[:min(len(d.Searches), maxSearches)], d.Options}
}

func mergeOptions(have []string, added []corev1.PodDNSConfigOption) []string {
	for _, o := range added {
		text := o.Name
		if o.Value != nil && *o.Value != "" {
			text += ":" + *o.Value
		}
		have = slices.DeleteFunc(have, func(s string) bool {
			name, _, _ := strings.Cut(s, ":")
			return name == o.Name
		})
		have = append(have, text)
	}
	return have
}

func unique(in []string) (out []string) {
	for _, s := range in {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// ResolvConf writes resolv.conf(5).
func (d DNS) ResolvConf() []byte {
	var b strings.Builder
	if len(d.Searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(d.Searches, " "))
	}
	for _, s := range d.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(d.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(d.Options, " "))
	}
	return []byte(b.String())
}
