//go:build vm

package vm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bareboat.dev/integration/host"
	"bareboat.dev/integration/vm/plan"
)

const (
	// bootLimit bounds the whole run; with two busy cores under emulation it takes some minutes.
	bootLimit = 25 * time.Minute
	// diskSize holds Debian's files, the tests' binaries, and what the tests write.
	diskSize = 4 << 30
	// jobSeconds bounds one job.
	jobSeconds = 900
)

// onlyVariable names the environment variable that restricts the run to some of the jobs, by their names with commas between.
const onlyVariable = "BAREBOAT_TEST_VM_ONLY"

// packages are what the machine's host has: what Bareboat needs of one, and what its tests use.
func packages() []string {
	return []string{"base-files", "base-passwd", "bash", "coreutils", "busybox-static", "iproute2", "iptables", "nftables", "kmod", "procps", "util-linux", "mount",
		"apparmor", "curl", "ca-certificates", "e2fsprogs", "conntrack"}
}

// suite is a package of the kubelet whose tests are run in the machine.
type suite struct {
	name, pkg string
	// tags are the build's, and skip the tests that are not run.
	tags, skip string
}

func suites() []suite {
	return []suite{
		{name: "cgroup", pkg: "bareboat.dev/kubelet/cgroup"},
		{name: "shim", pkg: "bareboat.dev/kubelet/shim"},
		{name: "image", pkg: "bareboat.dev/kubelet/image"},
		{name: "volume", pkg: "bareboat.dev/kubelet/volume"},
		{name: "csi", pkg: "bareboat.dev/kubelet/volume/csi"},
		// Pods with users of their own need a tmpfs whose owners can be mapped, which Linux has from 6.3 on; the machine's is 6.1.
		{name: "kubelet", pkg: "bareboat.dev/kubelet/cmd/kubelet", skip: "^TestUserNamespace$"},
	}
}

// TestUnified shows that the kubelet's own tests pass on a host whose control groups are v2 alone.
func TestUnified(t *testing.T) {
	only := os.Getenv(onlyVariable)
	m, tree := prepare(t)
	p := plan.Plan{Hostname: "unified"}
	for _, s := range suites() {
		if only == "" || strings.Contains(","+only+",", ","+s.name+",") {
			p.Jobs = append(p.Jobs, compile(t, tree, s))
		}
	}
	if only == "" || strings.Contains(","+only+",", ",cluster,") {
		p.Jobs = append(p.Jobs, cluster(t, tree))
	}
	boot(t, m, tree, p)
}

// cluster puts a whole cluster's files there, and the test that starts it.
func cluster(t *testing.T, tree Tree) plan.Job {
	t.Helper()
	root := host.Root()
	for _, d := range []string{"apiserver", "scheduler", "controllermanager", "kubelet", "proxy", "dns"} {
		must(t, tree.Copy(filepath.Join(root, "build/bin", d), "/usr/local/lib/bareboat/bin/"+d))
		unit := "bareboat-" + d + ".service"
		must(t, tree.Copy(filepath.Join(root, "build/systemd", unit), "/usr/local/lib/bareboat/systemd/"+unit))
	}
	must(t, tree.Copy(filepath.Join(root, "build/bin/kctl"), "/usr/local/bin/kctl"))
	for _, i := range []string{"redis", "api", "web"} {
		must(t, tree.Copy(filepath.Join(root, "build/images", i+".tar"), "/images/"+i+".tar"))
	}
	must(t, tree.Copy(filepath.Join(root, "deploy/examples/guestbook/guestbook.yaml"), "/images/guestbook.yaml"))
	return compile(t, tree, suite{name: "cluster", pkg: "bareboat.dev/integration/vm/cluster", tags: "vm"})
}

// prepare unpacks what the machine is made of.
func prepare(t *testing.T) (Machine, Tree) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes a disk whose files belong to root: it needs root")
	}
	host.Require(t, map[string]string{"qemu-system-x86_64": "qemu-system-x86", "mkfs.ext4": "e2fsprogs", "depmod": "kmod", "dpkg-deb": "dpkg"})
	cache := filepath.Join(host.Root(), "build", "vm")
	must(t, os.MkdirAll(cache, 0o755))
	kernelRoot, err := kernelPackage(cache)
	must(t, err)
	kernel, err := UnpackKernel(kernelRoot)
	must(t, err)
	if out, err := exec.Command("depmod", "-b", kernel.Root, kernel.Release).CombinedOutput(); err != nil {
		t.Fatalf("depmod: %v: %s", err, out)
	}
	dir := t.TempDir()
	base, err := debian(cache, "host", packages())
	must(t, err)
	tree := Tree{filepath.Join(dir, "tree")}
	if out, err := exec.Command("cp", "-a", base, tree.Root).CombinedOutput(); err != nil {
		t.Fatalf("copy: %v: %s", err, out)
	}
	if out, err := exec.Command("cp", "-a", filepath.Join(kernel.Root, "lib/modules"), filepath.Join(tree.Root, "lib/")).CombinedOutput(); err != nil {
		t.Fatalf("copy: %v: %s", err, out)
	}
	furnishTree(t, tree)
	init := filepath.Join(dir, "init")
	build(t, init, "build", "./guest")
	must(t, tree.Copy(init, "/init"))
	modules, err := kernel.LoadOrder("virtio_pci", "virtio_blk")
	must(t, err)
	m := Machine{Kernel: kernel.Image, Initramfs: filepath.Join(dir, "initramfs"), Disk: filepath.Join(dir, "disk"), CPUs: 2, Memory: 3072,
		Console: filepath.Join(dir, "console")}
	must(t, WriteInitramfs(m.Initramfs, init, modules))
	return m, tree
}

// kernelPackage unpacks the kernel that Debian's meta-package names, without what else that would bring.
func kernelPackage(cache string) (string, error) {
	root := filepath.Join(cache, "kernel")
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	out, err := exec.Command("apt-cache", "depends", "--important", "linux-image-cloud-amd64").Output()
	if err != nil {
		return "", fmt.Errorf("apt-cache depends linux-image-cloud-amd64: %w; run apt-get update first", err)
	}
	_, rest, ok := strings.Cut(string(out), "Depends: ")
	if !ok {
		return "", fmt.Errorf("linux-image-cloud-amd64 depends on nothing: %s", out)
	}
	name := strings.Fields(rest)[0]
	cmd := exec.Command("apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", name)
	cmd.Dir = cache
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("apt-get download %s: %w: %s", name, err, out)
	}
	debs, err := filepath.Glob(filepath.Join(cache, name+"_*.deb"))
	if err != nil || len(debs) != 1 {
		return "", fmt.Errorf("%s: %v, %w", name, debs, err)
	}
	if out, err := exec.Command("dpkg-deb", "--extract", debs[0], root).CombinedOutput(); err != nil {
		return "", fmt.Errorf("dpkg-deb: %w: %s", err, out)
	}
	return root, nil
}

// furnishTree adds what the packages' maintainer scripts, which are not run, would have made.
func furnishTree(t *testing.T, tree Tree) {
	t.Helper()
	for to, content := range map[string]string{
		"/etc/passwd":        "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
		"/etc/group":         "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
		"/etc/hosts":         "127.0.0.1 localhost\n",
		"/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
	} {
		must(t, tree.Write(to, content))
	}
	for name, target := range map[string]string{
		"/usr/sbin/iptables": "xtables-nft-multi", "/usr/sbin/ip6tables": "xtables-nft-multi",
		"/usr/sbin/iptables-restore": "xtables-nft-multi", "/usr/sbin/iptables-save": "xtables-nft-multi",
		"/usr/sbin/ip6tables-restore": "xtables-nft-multi", "/usr/sbin/ip6tables-save": "xtables-nft-multi",
		"/usr/sbin/modprobe": "/bin/kmod", "/sbin/modprobe": "/bin/kmod", "/usr/sbin/ip": "/bin/ip", "/usr/bin/busybox": "/bin/busybox",
		"/bin/sh": "bash", "/usr/bin/awk": "/bin/busybox", "/bin/awk": "/bin/busybox",
	} {
		must(t, tree.Link(target, name))
	}
	for _, dir := range []string{"tmp", "root", "proc", "sys", "dev", "run", "var/log", "var/tmp"} {
		must(t, os.MkdirAll(filepath.Join(tree.Root, dir), 0o755))
	}
}

// compile builds a package's tests and puts them, with their test data, where `go test` would run them.
func compile(t *testing.T, tree Tree, s suite) plan.Job {
	t.Helper()
	binary := filepath.Join(t.TempDir(), s.name)
	build(t, binary, "test", "-c", "-tags="+s.tags, s.pkg)
	dir := "/suites/" + s.name
	must(t, tree.Copy(binary, dir+"/tests"))
	source := goList(t, s.pkg)
	if data := filepath.Join(source, "testdata"); exists(data) {
		if out, err := exec.Command("cp", "-a", data, filepath.Join(tree.Root, dir, "testdata")).CombinedOutput(); err != nil {
			t.Fatalf("copy: %v: %s", err, out)
		}
	}
	job := plan.Job{Name: s.name, Dir: dir, Args: []string{dir + "/tests", "-test.v", "-test.timeout=" + fmt.Sprint(jobSeconds) + "s"}, Seconds: jobSeconds,
		Env: []string{"BAREBOAT_TEST_PODSHIM=/usr/local/lib/bareboat/bin/podshim"}}
	if s.skip != "" {
		job.Args = append(job.Args, "-test.skip="+s.skip)
	}
	return job
}

// boot runs the plan and fails with what failed.
func boot(t *testing.T, m Machine, tree Tree, p plan.Plan) {
	t.Helper()
	podshim := filepath.Join(host.Root(), "build/bin/podshim")
	if !exists(podshim) {
		t.Fatalf("%s is not there; build first: make build", podshim)
	}
	must(t, tree.Copy(podshim, "/usr/local/lib/bareboat/bin/podshim"))
	must(t, tree.Plan(p))
	must(t, tree.Image(m.Disk, diskSize))
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	began := time.Now()
	results, err := m.Run(ctx, func(l plan.Line) {
		if testing.Verbose() && (strings.HasPrefix(l.Output, "--- ") || strings.HasPrefix(l.Output, "    --- ") || l.Ended) {
			fmt.Printf("[%4.0fs] %s: %s\n", time.Since(began).Seconds(), l.Job, l.Output)
		}
	})
	if err != nil {
		t.Error(err)
	}
	ended := map[string]Result{}
	for _, r := range results {
		ended[r.Job] = r
	}
	for _, job := range p.Jobs {
		t.Run(job.Name, func(t *testing.T) {
			r, ok := ended[job.Name]
			switch {
			case !ok:
				console, _ := os.ReadFile(m.Console)
				t.Errorf("did not end; the console said:\n%s", console)
			case r.Code != 0:
				t.Errorf("exit code %d %s\n%s", r.Code, r.Error, r.Output)
			}
		})
	}
}

// build runs the go command for a program that needs no library.
func build(t *testing.T, output string, args ...string) {
	t.Helper()
	cmd := exec.Command("go", append([]string{args[0], "-o", output}, args[1:]...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func goList(t *testing.T, pkg string) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-tags=vm", "-find", "-f", "{{.Dir}}", pkg).Output()
	must(t, err)
	return strings.TrimSpace(string(out))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
