package pki

import (
	"net"
	"time"
)

// Host is what the certificates of one machine are made for.
type Host struct {
	// NodeName is the node's name in the API, Hostname the machine's own.
	NodeName, Hostname string
	// IPs the machine is reached at.
	IPs []net.IP
	// ServiceIP is the cluster IP of the kubernetes service.
	ServiceIP net.IP
	// ClusterDomain, e.g. "cluster.local".
	ClusterDomain string
}

// Names of the leaf certificates, which are also the names of their files.
const (
	APIServer         = "apiserver"
	APIServerKubelet  = "apiserver-kubelet-client"
	Kubelet           = "kubelet"
	Scheduler         = "scheduler"
	ControllerManager = "controllermanager"
	Proxy             = "proxy"
	DNS               = "dns"
	Admin             = "admin"
	ServiceAccount    = "sa"
	// FrontProxy is by which aggregated API servers know this one. Its authority signs nothing else: whom it vouches for is
	// believed about who everybody is.
	FrontProxy   = "front-proxy-client"
	FrontProxyCA = "front-proxy-ca"

	clusterCA = "ca"
)

// authority tells the names of authorities from those of leaves.
func authority(name string) bool { return name == clusterCA || name == FrontProxyCA }

// ControlPlane lists the leaves of a machine that runs the control plane.
func ControlPlane(h Host) []Leaf {
	loopback := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	names := []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + h.ClusterDomain, "localhost"}
	if h.Hostname != "" {
		names = append(names, h.Hostname)
	}
	ips := append(append([]net.IP{h.ServiceIP}, loopback...), h.IPs...)
	return []Leaf{
		{Name: APIServer, CommonName: "kube-apiserver", DNSNames: names, IPs: ips, Server: true},
		{Name: APIServerKubelet, CommonName: "kube-apiserver-kubelet-client", Organizations: []string{"system:masters"}, Client: true},
		{Name: FrontProxy, CommonName: FrontProxy, Client: true, Authority: FrontProxyCA},
		// The two also serve metrics and health.
		{Name: Scheduler, CommonName: "system:kube-scheduler", DNSNames: []string{"localhost"}, IPs: loopback, Client: true, Server: true},
		{Name: ControllerManager, CommonName: "system:kube-controller-manager", DNSNames: []string{"localhost"}, IPs: loopback, Client: true, Server: true},
		{Name: Admin, CommonName: "kubernetes-admin", Organizations: []string{"system:masters"}, Client: true},
	}
}

// Node lists the leaves of a machine that runs pods.
func Node(h Host) []Leaf {
	ips := append([]net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, h.IPs...)
	return []Leaf{
		{Name: Kubelet, CommonName: "system:node:" + h.NodeName, Organizations: []string{"system:nodes"}, DNSNames: []string{h.NodeName, h.Hostname, "localhost"}, IPs: ips, Client: true, Server: true},
		{Name: Proxy, CommonName: "system:kube-proxy", Client: true},
		{Name: DNS, CommonName: "system:bareboat:dns", Client: true},
	}
}

// Ensure makes the authority, the token signing key and every leaf that is missing or due, and returns the names of what it made.
func (s Store) Ensure(leaves []Leaf, now time.Time) (made []string, err error) {
	ca, err := s.CA(now)
	if err != nil {
		return nil, err
	}
	if err := s.SigningKey(ServiceAccount); err != nil {
		return nil, err
	}
	for _, leaf := range leaves {
		by := ca
		if leaf.Authority != "" {
			if by, err = s.Authority(leaf.Authority, now); err != nil {
				return made, err
			}
		}
		ok, err := s.Leaf(by, leaf, now)
		if err != nil {
			return made, err
		}
		if ok {
			made = append(made, leaf.Name)
		}
	}
	return made, nil
}
