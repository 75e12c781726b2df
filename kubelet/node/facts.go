package node

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"bareboat.dev/kubelet/numa"
)

// Facts are what is read from the host once.
type Facts struct {
	Info   corev1.NodeSystemInfo
	CPUs   int
	Memory int64
	Disk   int64
	// HugePage is how much memory is in huge pages, by the resource's name.
	HugePage map[string]int64
	// ReadOnlyMounts and UserNamespaces say what the kernel has for volumes that are read-only with all that is mounted in them, and for pods
	// with users of their own.
	ReadOnlyMounts, UserNamespaces bool
}

// ReadFacts reads the host's facts. root is the directory whose file system is the node's ephemeral storage.
func ReadFacts(root, version string) (Facts, error) {
	memory, err := meminfo()
	if err != nil {
		return Facts{}, err
	}
	f := Facts{CPUs: onlineCPUs(), Memory: memory["MemTotal"], HugePage: hugePages("/sys/kernel/mm/hugepages")}
	f.ReadOnlyMounts, f.UserNamespaces = kernelFeatures()
	var fs unix.Statfs_t
	if err := unix.Statfs(root, &fs); err != nil {
		return f, &os.PathError{Op: "statfs", Path: root, Err: err}
	}
	f.Disk = int64(fs.Blocks) * fs.Bsize
	f.Info = corev1.NodeSystemInfo{
		MachineID:               first(readLine("/etc/machine-id"), readLine("/var/lib/dbus/machine-id"), readLine("/proc/sys/kernel/random/boot_id")),
		SystemUUID:              first(readLine("/sys/class/dmi/id/product_uuid"), readLine("/etc/machine-id")),
		BootID:                  readLine("/proc/sys/kernel/random/boot_id"),
		KernelVersion:           readLine("/proc/sys/kernel/osrelease"),
		OSImage:                 osImage(),
		ContainerRuntimeVersion: "bareboat://" + strings.TrimPrefix(version, "v"),
		KubeletVersion:          version,
		OperatingSystem:         runtime.GOOS,
		Architecture:            runtime.GOARCH,
	}
	if swap := memory["SwapTotal"]; swap > 0 {
		f.Info.Swap = &corev1.NodeSwapStatus{Capacity: &swap}
	}
	return f, nil
}

// onlineCPUs is how many CPUs the host has, on however few of them this process may run.
func onlineCPUs() int {
	ids, err := numa.ParseList(readLine("/sys/devices/system/cpu/online"))
	if err != nil || len(ids) == 0 {
		return runtime.NumCPU()
	}
	return len(ids)
}

// hugePages reads how much memory is in huge pages of each size.
func hugePages(dir string) map[string]int64 {
	all := map[string]int64{}
	sizes, _ := filepath.Glob(filepath.Join(dir, "hugepages-*kB"))
	for _, at := range sizes {
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(at), "hugepages-"), "kB"), 10, 64)
		if err != nil {
			continue
		}
		n, _ := strconv.ParseInt(readLine(filepath.Join(at, "nr_hugepages")), 10, 64)
		all[corev1.ResourceHugePagesPrefix+resource.NewQuantity(kb<<10, resource.BinarySI).String()] = n * kb << 10
	}
	return all
}

// kernelFeatures says whether mounts can be made read-only with all that is mounted in them, which mount_setattr(2) does, and whether pods can
// have users of their own, which needs it for the owners of their volumes, too.
func kernelFeatures() (readOnlyMounts, userNamespaces bool) {
	const none = -1
	readOnlyMounts = !errors.Is(unix.MountSetattr(none, "", unix.AT_EMPTY_PATH, &unix.MountAttr{}), unix.ENOSYS)
	_, err := os.Stat("/proc/self/ns/user")
	return readOnlyMounts, readOnlyMounts && err == nil && readLine("/proc/sys/user/max_user_namespaces") != "0"
}

// Capacity is what the host has.
func (f Facts) Capacity(maxPods int) corev1.ResourceList {
	list := corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(int64(f.CPUs), resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(f.Memory, resource.BinarySI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(f.Disk, resource.BinarySI),
		corev1.ResourcePods:             *resource.NewQuantity(int64(maxPods), resource.DecimalSI),
	}
	for name, bytes := range f.HugePage {
		list[corev1.ResourceName(name)] = *resource.NewQuantity(bytes, resource.BinarySI)
	}
	return list
}

// Allocatable is capacity less what is reserved, never less than nothing. Huge pages are taken from memory.
func Allocatable(capacity, reserved corev1.ResourceList) corev1.ResourceList {
	list := capacity.DeepCopy()
	for name, q := range reserved {
		have, ok := list[name]
		if !ok {
			continue
		}
		have.Sub(q)
		if have.Sign() < 0 {
			have = *resource.NewQuantity(0, have.Format)
		}
		list[name] = have
	}
	for name, q := range capacity {
		if strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
			memory := list[corev1.ResourceMemory]
			memory.Sub(q)
			list[corev1.ResourceMemory] = memory
		}
	}
	return list
}

// meminfo reads /proc/meminfo, in bytes where it counts kB.
func meminfo() (map[string]int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	values := map[string]int64{}
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 2 {
			continue
		}
		n, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("/proc/meminfo: %q: %w", s.Text(), err)
		}
		if len(fields) == 3 && fields[2] == "kB" {
			n *= 1024
		}
		values[strings.TrimSuffix(fields[0], ":")] = n
	}
	return values, nil
}

func readLine(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// osImage is the distribution's name for itself (os-release(5)).
func osImage() string {
	for line := range strings.Lines(readLine("/etc/os-release") + "\n") {
		if v, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(strings.TrimSpace(v), `"'`)
		}
	}
	return "Linux"
}

// DefaultIP is the address from which this host speaks to the others: that of the route to a far address, which is looked
// up and not used.
func DefaultIP() (net.IP, error) {
	for _, far := range []string{"203.0.113.1:9", "[2001:db8::1]:9"} { // documentation ranges: RFC 5737, RFC 3849
		conn, err := net.Dial("udp", far)
		if err != nil {
			continue
		}
		ip := conn.LocalAddr().(*net.UDPAddr).IP
		_ = conn.Close()
		if !ip.IsLoopback() {
			return ip, nil
		}
	}
	return firstAddress()
}

func firstAddress() (net.IP, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return n.IP, nil
		}
	}
	return nil, fmt.Errorf("this host has no address that other hosts could reach; set --node-ip")
}
