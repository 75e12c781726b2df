package cluster

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"

	"bareboat.dev/kctl/pki"
)

// configVersion is the apiVersion of the daemons' configuration files.
const configVersion = "bareboat.dev/v1"

// writeConfigs writes each daemon's configuration file. Settings have the names of the daemons' flags.
func writeConfigs(l Layout, o Options) error {
	store := pki.Store{Dir: l.PKI()}
	ca := store.CertFile("ca")
	port := int(o.Port)
	// Not the address, which may change: every token would be foreign.
	issuer := "https://kubernetes.default.svc." + o.ClusterDomain
	settings := map[string]map[string]any{
		"apiserver": {
			"securePort": port, "advertiseAddress": o.NodeIP.String(), "sqliteFile": l.Database(),
			"tlsCertFile": store.CertFile(pki.APIServer), "tlsPrivateKeyFile": store.KeyFile(pki.APIServer), "clientCAFile": ca,
			"kubeletClientCertificate": store.CertFile(pki.APIServerKubelet), "kubeletClientKey": store.KeyFile(pki.APIServerKubelet), "kubeletCertificateAuthority": ca,
			"serviceAccountIssuer": issuer, "serviceAccountSigningKeyFile": store.KeyFile(pki.ServiceAccount), "serviceAccountKeyFile": filepath.Join(store.Dir, pki.ServiceAccount+".pub"),
			"serviceClusterIPRange":     o.ServiceCIDR.String(),
			"requestheaderClientCAFile": store.CertFile(pki.FrontProxyCA), "requestheaderAllowedNames": []string{pki.FrontProxy},
			"proxyClientCertFile": store.CertFile(pki.FrontProxy), "proxyClientKeyFile": store.KeyFile(pki.FrontProxy),
		},
		"scheduler":         serving(l, store, pki.Scheduler),
		"controllermanager": serving(l, store, pki.ControllerManager),
		"kubelet": {
			"kubeconfig": l.Kubeconfig(pki.Kubelet), "hostnameOverride": o.NodeName, "nodeIP": []string{o.NodeIP.String()},
			"clusterDNS": []string{o.DNSServiceIP().String()}, "clusterDomain": o.ClusterDomain, "clusterCIDR": []string{o.PodCIDR.String()}, "rootDir": l.Kubelet,
			"staticPodPath": filepath.Join(l.Etc, "manifests"),
			"tlsCertFile":   store.CertFile(pki.Kubelet), "tlsPrivateKeyFile": store.KeyFile(pki.Kubelet), "clientCAFile": ca,
		},
		"proxy": {
			"kubeconfig": l.Kubeconfig(pki.Proxy), "hostnameOverride": o.NodeName, "clusterCIDR": o.PodCIDR.String(), "proxyMode": o.ProxyMode,
		},
		"dns": {
			"kubeconfig": l.Kubeconfig(pki.DNS), "clusterDNS": []string{o.DNSServiceIP().String()}, "clusterDomain": o.ClusterDomain,
		},
	}
	settings["controllermanager"]["clusterCIDR"] = o.PodCIDR.String()
	settings["controllermanager"]["allocateNodeCIDRs"] = true
	// up has loaded the authority with its key, or failed.
	settings["controllermanager"]["clusterSigningCertFile"], settings["controllermanager"]["clusterSigningKeyFile"] = ca, store.KeyFile("ca")
	var errs []error
	for daemon, values := range settings {
		values["apiVersion"], values["kind"] = configVersion, strings.ToUpper(daemon[:1])+daemon[1:]+"Configuration"
		data, err := yaml.Marshal(values)
		if err == nil {
			err = writeFile(l.Config(daemon), append([]byte(fmt.Sprintf("# Written by kctl up; flags of %s --help win over it.\n", daemon)), data...), 0o600)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// serving are the settings of a daemon that speaks to the API and serves its own metrics.
func serving(l Layout, store pki.Store, name string) map[string]any {
	return map[string]any{
		"kubeconfig":  l.Kubeconfig(name),
		"tlsCertFile": store.CertFile(name), "tlsPrivateKeyFile": store.KeyFile(name), "clientCAFile": store.CertFile("ca"),
	}
}
