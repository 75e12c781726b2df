package runspec

import (
	"errors"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	"bareboat.dev/kubelet/apparmor"
	"bareboat.dev/kubelet/image"
)

func podOf(t *testing.T, text string) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{}
	p.Namespace, p.Name, p.UID = "ns", "web", "u1"
	if err := yaml.UnmarshalStrict([]byte(text), &p.Spec); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestVerifyNonRoot shows what runAsNonRoot lets pass, by user of pod, container and image.
func TestVerifyNonRoot(t *testing.T) {
	for _, c := range []struct{ spec, user, want string }{
		{`{containers: [{name: c}]}`, "", ""},
		{`{securityContext: {runAsNonRoot: true}, containers: [{name: c}]}`, "", `container has runAsNonRoot and image will run as root (pod: "web_ns(u1)", container: c)`},
		{`{securityContext: {runAsNonRoot: true}, containers: [{name: c}]}`, "1000", ""},
		{`{securityContext: {runAsNonRoot: true}, containers: [{name: c}]}`, "0:5", `image will run as root`},
		{`{securityContext: {runAsNonRoot: true}, containers: [{name: c}]}`, "web", `image has non-numeric user (web), cannot verify user is non-root`},
		{`{securityContext: {runAsNonRoot: true}, containers: [{name: c}]}`, "4294967296", `non-numeric user`}, // would overflow to root
		{`{securityContext: {runAsNonRoot: true}, containers: [{name: c}]}`, "-1", `non-numeric user`},
		{`{securityContext: {runAsNonRoot: true}, containers: [{name: c}]}`, "00", `image will run as root`},
		{`{securityContext: {runAsNonRoot: true}, containers: [{name: c}]}`, "+0", `non-numeric user (+0)`},
		{`{securityContext: {runAsNonRoot: true}, containers: [{name: c}]}`, "0x10", `non-numeric user`},
		{`{securityContext: {runAsNonRoot: true}, containers: [{name: c}]}`, " 5", `non-numeric user`},
		{`{securityContext: {runAsNonRoot: true}, containers: [{name: c}]}`, "2147483648", `non-numeric user`},
		{`{securityContext: {runAsNonRoot: true}, containers: [{name: c}]}`, "18446744073709551616", `non-numeric user`},
		{`{securityContext: {runAsNonRoot: true}, containers: [{name: c}]}`, "１", `non-numeric user`}, // a digit, but none of ASCII
		{`{securityContext: {runAsNonRoot: true, runAsUser: 0}, containers: [{name: c}]}`, "5", `container's runAsUser breaks non-root policy`},
		{`{securityContext: {runAsNonRoot: true, runAsUser: 0}, containers: [{name: c, securityContext: {runAsUser: 7}}]}`, "", ""},
		{`{securityContext: {runAsNonRoot: true}, containers: [{name: c, securityContext: {runAsNonRoot: false}}]}`, "", ""},
	} {
		p := podOf(t, c.spec)
		err := VerifyNonRoot(p, &p.Spec.Containers[0], image.Config{User: c.user})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s as %q: %v, want %q", c.spec, c.user, err, c.want)
		}
	}
}

// TestResources shows the kernel's limits for requests and limits of containers and pods.
func TestResources(t *testing.T) {
	p := podOf(t, `
initContainers:
- {name: i, resources: {requests: {cpu: "2"}, limits: {memory: 100Mi, cpu: "2"}}}
- {name: s, restartPolicy: Always, resources: {requests: {cpu: 100m}, limits: {memory: 10Mi, cpu: 200m}}}
containers:
- {name: a, resources: {requests: {cpu: 500m}, limits: {memory: 64Mi, cpu: "1"}}}
- {name: b, resources: {limits: {memory: 64Mi, cpu: 250m}}}
`)
	r := Resources(&p.Spec.Containers[0].Resources)
	if *r.CPU.Shares != 512 || *r.CPU.Quota != 100000 || *r.Memory.Limit != 64<<20 {
		t.Errorf("container a: %+v %+v", r.CPU, r.Memory)
	}
	if r := Resources(&corev1.ResourceRequirements{}); *r.CPU.Shares != 2 || r.CPU.Quota != nil || r.Memory != nil {
		t.Errorf("no resources: %+v", r)
	}
	// CPU: 2 for the init container alone is more than 0.1 + 0.5 + 0.25; memory: 10 + 64 + 64 is more than 100.
	if got := PodResources(&p.Spec, 77); got.CPUShares != 2048 || got.CPUQuota != 200000 || got.MemoryLimit != 138<<20 || got.PidsLimit != 77 {
		t.Errorf("pod: %+v", got)
	}
	p.Spec.Containers[0].Resources.Limits["hugepages-2Mi"] = resource.MustParse("4Mi")
	p.Spec.Containers[1].Resources.Limits["hugepages-2Mi"] = resource.MustParse("6Mi")
	if got := PodResources(&p.Spec, 0).HugepageLimits; len(got) != 1 || got["2MB"] != 10<<20 {
		t.Errorf("huge pages: %v", got)
	}
	p.Spec.Containers[1].Resources.Limits = nil
	if got := PodResources(&p.Spec, -1); got.CPUQuota != 0 || got.MemoryLimit != 0 {
		t.Errorf("pod with a container without limits is limited: %+v", got)
	}
}

// TestSecurity shows capabilities, privileges and filters.
func TestSecurity(t *testing.T) {
	kernel := []string{"CAP_CHOWN", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"}
	build := func(text string) (caps []string, filtered, masked bool, noNew bool) {
		p := podOf(t, "containers: [{name: c, securityContext: "+text+"}]")
		s, err := Build(Input{Pod: p, Container: &p.Spec.Containers[0], Args: []string{"a"}, KernelCaps: kernel, Rootfs: "/r"})
		if err != nil {
			t.Fatal(text, err)
		}
		return s.Process.Capabilities.Bounding, s.Linux.Seccomp != nil, len(s.Linux.MaskedPaths) > 0, s.Process.NoNewPrivileges
	}
	caps, filtered, masked, noNew := build(`{}`)
	if !slices.Contains(caps, "CAP_CHOWN") || slices.Contains(caps, "CAP_NET_ADMIN") || filtered || !masked || noNew {
		t.Errorf("default: %v %v %v %v", caps, filtered, masked, noNew)
	}
	if caps, _, _, _ := build(`{capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}`); !slices.Equal(caps, []string{"CAP_NET_BIND_SERVICE"}) {
		t.Errorf("drop all: %v", caps)
	}
	if caps, _, _, _ := build(`{capabilities: {add: [ALL], drop: [SYS_ADMIN]}}`); !slices.Equal(caps, []string{"CAP_CHOWN", "CAP_NET_ADMIN"}) {
		t.Errorf("add all: %v", caps)
	}
	if caps, filtered, masked, _ := build(`{privileged: true, seccompProfile: {type: RuntimeDefault}}`); !slices.Equal(caps, kernel) || filtered || masked {
		t.Errorf("privileged: %v %v %v", caps, filtered, masked)
	}
	if _, filtered, _, noNew := build(`{seccompProfile: {type: RuntimeDefault}, allowPrivilegeEscalation: false}`); !filtered || !noNew {
		t.Errorf("RuntimeDefault: %v %v", filtered, noNew)
	}
}

// TestAppArmor shows which profile a container has by its own word or its pod's.
func TestAppArmor(t *testing.T) {
	for _, c := range []struct{ spec, want, err string }{
		{`containers: [{name: a}]`, "the-default", ""},
		{`containers: [{name: a, securityContext: {privileged: true}}]`, "", ""},
		{`containers: [{name: unable}]`, "", ""},
		{`containers: [{name: unable, securityContext: {appArmorProfile: {type: RuntimeDefault}}}]`, "", "apparmor_parser"},
		{`containers: [{name: broken}]`, "", "cannot load"},
		{`{securityContext: {appArmorProfile: {type: RuntimeDefault}}, containers: [{name: a}]}`, "the-default", ""},
		{`{securityContext: {appArmorProfile: {type: RuntimeDefault}}, containers: [{name: a, securityContext: {appArmorProfile: {type: Unconfined}}}]}`, "", ""},
		{`containers: [{name: a, securityContext: {appArmorProfile: {type: Localhost, localhostProfile: mine}}}]`, "mine", ""},
		{`containers: [{name: a, securityContext: {privileged: true, appArmorProfile: {type: RuntimeDefault}}}]`, "", ""},
		{`containers: [{name: broken, securityContext: {appArmorProfile: {type: RuntimeDefault}}}]`, "", "cannot load"},
	} {
		p := podOf(t, c.spec)
		in := Input{Pod: p, Container: &p.Spec.Containers[0], Args: []string{"x"}, Rootfs: "/", DefaultAppArmor: func() (string, error) {
			switch p.Spec.Containers[0].Name {
			case "broken":
				return "", errors.New("cannot load")
			case "unable":
				return "", apparmor.ErrNoParser
			}
			return "the-default", nil
		}}
		spec, err := Build(in)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v", c.spec, err)
			}
			continue
		}
		if err != nil || spec.Process.ApparmorProfile != c.want {
			t.Errorf("%s: %v, %v", c.spec, spec, err)
		}
	}
}

// TestOOMScore shows whom the kernel kills first on a node of 100 MiB: by class and request, a sidecar no sooner than those it serves, and
// pods of high priority as others, but for those that the node cannot do without.
func TestOOMScore(t *testing.T) {
	const burstable = `resources: {requests: {memory: 10Mi}}`
	for _, c := range []struct {
		spec      string
		container string
		want      int
	}{
		{`containers: [{name: a}]`, "a", 1000},
		{`containers: [{name: a, ` + burstable + `}]`, "a", 900},
		{`containers: [{name: a, ` + burstable + `}, {name: b}]`, "b", 999},
		{`{priority: 2000000000, priorityClassName: system-cluster-critical, containers: [{name: a, ` + burstable + `}]}`, "a", 900},
		{`{priority: 2000001000, priorityClassName: system-node-critical, containers: [{name: a}]}`, "a", -997},
		{`containers: [{name: a, resources: {limits: {cpu: 1, memory: 10Mi}}}]`, "a", -997},
		{`{containers: [{name: a, ` + burstable + `}], initContainers: [{name: s, restartPolicy: Always}]}`, "s", 900},
		{`{containers: [{name: a, ` + burstable + `}], initContainers: [{name: s, restartPolicy: Always, resources: {requests: {memory: 20Mi}}}]}`, "s", 800},
		{`{containers: [{name: a, ` + burstable + `}], initContainers: [{name: i}]}`, "i", 999},
		{`{resources: {requests: {memory: 50Mi}}, containers: [{name: a, ` + burstable + `}, {name: b}]}`, "b", 800},
		{`{resources: {requests: {memory: 50Mi}}, containers: [{name: a, ` + burstable + `}, {name: b}]}`, "a", 700},
	} {
		p := podOf(t, c.spec)
		for _, each := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
			if each.Name != c.container {
				continue
			}
			if got := OOMScore(p, &each, 100<<20); got != c.want {
				t.Errorf("%s in %s: %d, want %d", c.container, c.spec, got, c.want)
			}
		}
	}
}

// TestPodDNS shows the resolver configuration by policy.
func TestPodDNS(t *testing.T) {
	host := ParseResolvConf([]byte("# c\nnameserver 192.0.2.1\nsearch corp\noptions timeout:1\n"))
	for spec, want := range map[string]string{
		`{dnsPolicy: ClusterFirst}`:                               "search ns.svc.c.local svc.c.local c.local corp\nnameserver 10.96.0.10\noptions ndots:5\n",
		`{dnsPolicy: Default}`:                                    "search corp\nnameserver 192.0.2.1\noptions timeout:1\n",
		`{dnsPolicy: ClusterFirst, hostNetwork: true}`:            "search corp\nnameserver 192.0.2.1\noptions timeout:1\n",
		`{dnsPolicy: ClusterFirstWithHostNet, hostNetwork: true}`: "search ns.svc.c.local svc.c.local c.local corp\nnameserver 10.96.0.10\noptions ndots:5\n",
		`{dnsPolicy: None, dnsConfig: {nameservers: [1.1.1.1], searches: [a], options: [{name: ndots, value: "2"}, {name: edns0}]}}`: "search a\nnameserver 1.1.1.1\noptions ndots:2 edns0\n",
		`{dnsPolicy: ClusterFirst, dnsConfig: {options: [{name: ndots, value: "1"}]}}`:                                               "search ns.svc.c.local svc.c.local c.local corp\nnameserver 10.96.0.10\noptions ndots:1\n",
	} {
		if got := string(PodDNS(podOf(t, spec), host, []string{"10.96.0.10"}, "c.local").ResolvConf()); got != want {
			t.Errorf("%s: %q, want %q", spec, got, want)
		}
	}
}

// TestHostname shows pods' names, cut to what the kernel takes.
func TestHostname(t *testing.T) {
	long := strings.Repeat("a", 62) + "-" + strings.Repeat("b", 10)
	for spec, want := range map[string]string{
		`{}`:                          "web",
		`{hostname: h}`:               "h",
		`{hostname: h, subdomain: s}`: "h",
		`{hostname: h, subdomain: s, setHostnameAsFQDN: true}`: "h.s.ns.svc.c.local",
		`{hostnameOverride: over.example}`:                     "over.example",
		`{hostname: ` + long + `}`:                             strings.Repeat("a", 62),
	} {
		if got, err := KernelHostname(podOf(t, spec), "c.local"); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", spec, got, err, want)
		}
	}
}
