package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// TestPodSpec shows what containers see of fields of their specification: each pod prints it, and ends.
func TestPodSpec(t *testing.T) {
	h := newHost(t)
	h.load()
	cases := []struct{ name, spec, script, want string }{
		{"user", `securityContext: {runAsUser: 1000, runAsGroup: 2000, supplementalGroups: [7]}`, `id`, "uid=1000(web) gid=2000(extra) groups=7,2000(extra)\n"},
		{"readonly", `CONTAINER: {securityContext: {readOnlyRootFilesystem: true}}`, `touch /x 2>&1; touch /dev/shm/y && echo shm`, "touch: /x: Read-only file system\nshm\n"},
		{"seccomp", `securityContext: {seccompProfile: {type: RuntimeDefault}}`, `grep Seccomp: /proc/self/status`, "Seccomp:\t2\n"},
		{"nopriv", `CONTAINER: {securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}`, `grep -E 'NoNewPrivs|CapBnd' /proc/self/status`, "CapBnd:\t0000000000000000\nNoNewPrivs:\t1\n"},
		{"privileged", `CONTAINER: {securityContext: {privileged: true}}`, `test -e /dev/zero && touch /proc/sys/kernel/x 2>/dev/null; grep -c ' /proc/sys ' /proc/mounts`, "0\n"},
		{"masked", ``, `ls -A /proc/acpi | cat; touch /proc/sys/kernel/domainname 2>&1 | cat; echo done`, "touch: /proc/sys/kernel/domainname: Read-only file system\ndone\n"},
		{"hostnetwork", `hostNetwork: true`, `ls /sys/class/net; hostname`, ""},
		{"shared", `shareProcessNamespace: true`, `test $$$$ != 1 && echo not the first`, "not the first\n"},
		{"alone", ``, `echo $$$$`, "1\n"},
		{"sysctl", `securityContext: {sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: "99"}]}`, `cat /proc/sys/net/ipv4/ip_unprivileged_port_start`, "99\n"},
		{"hostname", `{hostname: box, subdomain: sub}`, `hostname; cat /etc/hostname; grep box /etc/hosts | head -n 1 | grep -c box.sub.default.svc.cluster.local`, "box\nbox\n1\n"},
		{"dns", `dnsPolicy: ClusterFirst`, `cat /etc/resolv.conf | grep -v corp`, ""},
		{"workdir", `CONTAINER: {workingDir: /tmp}`, `pwd`, "/tmp\n"},
		{"cpu", `CONTAINER: {resources: {limits: {cpu: 500m, memory: 20Mi}}, env: [{name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}]}`, `echo $CPU`, "500\n"},
		{"subpath", `{CONTAINER: {env: [{name: P, value: part}], volumeMounts: [{name: v, mountPath: /m, subPathExpr: "$(P)/x"}, {name: v, mountPath: /all}]}, volumes: [{name: v, emptyDir: {}}]}`, `touch /m/f; ls /all/part/x`, "f\n"},
		{"hostpath", `{CONTAINER: {volumeMounts: [{name: v, mountPath: /m, readOnly: true}]}, volumes: [{name: v, hostPath: {path: /etc, type: Directory}}]}`, `test -e /m/passwd && touch /m/x 2>&1`, "touch: /m/x: Read-only file system\n"},
	}
	for _, c := range cases {
		h.create(c.name, withScript(c.spec, c.script))
	}
	for _, c := range cases {
		p := h.await(c.name, "its end", func(p *corev1.Pod) bool {
			return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
		})
		got := h.log(p, "app", "0")
		if c.want != "" && got != c.want {
			t.Errorf("%s: printed %q, want %q (%s)", c.name, got, c.want, p.Status.Phase)
		}
		switch c.name {
		case "hostnetwork":
			if !strings.Contains(got, "up0\n") || p.Status.PodIP != p.Status.HostIP {
				t.Errorf("hostNetwork: printed %q, address %s", got, p.Status.PodIP)
			}
		case "dns":
			if !strings.Contains(got, "search default.svc.cluster.local svc.cluster.local cluster.local") || !strings.Contains(got, "nameserver 10.96.0.10") {
				t.Errorf("resolv.conf is %q", got)
			}
		}
	}
}

// withScript is a pod's specification with one container that runs a script and has the fields that spec has under CONTAINER.
func withScript(spec, script string) string {
	container := ""
	if i := strings.Index(spec, "CONTAINER: {"); i >= 0 {
		rest := spec[i+len("CONTAINER: {"):]
		depth, end := 1, 0
		for end = 0; depth > 0; end++ {
			switch rest[end] {
			case '{':
				depth++
			case '}':
				depth--
			}
		}
		container = ", " + rest[:end-1]
		spec = strings.TrimPrefix(spec[:i]+rest[end:], "{, ")
		spec = strings.TrimSuffix(strings.TrimPrefix(spec, "{"), "}")
	} else if strings.HasPrefix(spec, "{") {
		spec = strings.TrimSuffix(strings.TrimPrefix(spec, "{"), "}")
	}
	fields := fmt.Sprintf("restartPolicy: Never, containers: [{name: app, command: [sh, -c, %q]%s}]", script, container)
	if spec = strings.Trim(spec, ", "); spec != "" {
		fields += ", " + spec
	}
	return "{" + fields + "}"
}

// TestUserNamespace shows a pod with users of its own: its root has its files, volumes and network, and is nobody on the host; and no two such
// pods are the same nobody.
func TestUserNamespace(t *testing.T) {
	h := newHost(t)
	h.load()
	const spec = `{CONTAINER: {volumeMounts: [{name: d, mountPath: /d}, {name: m, mountPath: /m}, {name: t, mountPath: /t}]}, hostUsers: false, volumes: [{name: d, emptyDir: {}}, {name: m, emptyDir: {medium: Memory}}, {name: t, projected: {sources: [{downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}]}}]}`
	const script = `id -u; tr -s ' ' </proc/self/uid_map | cut -d' ' -f2,4; touch /d/x /m/x /new && chown 1000:1000 /d/x && stat -c '%u %g' /d/x /m/x /new /etc/passwd /etc/hosts; cat /t/name; echo
		echo bye > /dev/termination-log; sleep 1000`
	// The pods' users must be able to pass through to their root file systems, as through /var/lib.
	if err := os.Chmod(filepath.Dir(filepath.Dir(h.c.RootDir)), 0o711); err != nil {
		t.Fatal(err)
	}
	pods := map[string]*corev1.Pod{}
	for _, name := range []string{"one", "two"} {
		h.create(name, withScript(spec, script))
	}
	hosts := map[uint32]bool{}
	for _, name := range []string{"one", "two"} {
		p := h.await(name, "Running", running)
		pods[name] = p
		h.awaitLog(p, "app", "0", "0\n0 65536\n1000 1000\n0 0\n0 0\n0 0\n0 0\n"+name+"\n")
		var st unix.Stat_t
		if err := unix.Stat(fmt.Sprintf("/proc/%d", h.pid(p)), &st); err != nil || st.Uid < 65536 || st.Uid%65536 != 0 || hosts[st.Uid] {
			t.Errorf("on the host %s is user %d, %v", name, st.Uid, err)
		}
		hosts[st.Uid] = true
	}
	for _, name := range []string{"one", "two"} {
		h.remove(name, 0)
		h.awaitGone(name)
		h.awaitNoTraces(pods[name])
	}
}
