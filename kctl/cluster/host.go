package cluster

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// nodeName turns a host name into a node name as the kubelet does: trimmed and in lower case.
func nodeName(host string) string { return strings.ToLower(strings.TrimSpace(host)) }

// hostIP returns the source address of the default route without sending anything, or the first global address.
func hostIP() (netip.Addr, error) {
	// Connecting a UDP socket only asks the routing table. The address is TEST-NET-3 (RFC 5737).
	if conn, err := net.Dial("udp4", "203.0.113.1:9"); err == nil {
		defer conn.Close()
		if a, ok := netip.AddrFromSlice(conn.LocalAddr().(*net.UDPAddr).IP); ok && !a.Unmap().IsLoopback() {
			return a.Unmap(), nil
		}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("list the host's addresses: %w", err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				return ip.Unmap(), nil
			}
		}
	}
	return netip.Addr{}, nil
}

// requirement is a program that daemons call, with the Debian package that has it.
type requirement struct{ program, debian string }

// requirements of a host with the given proxy mode.
func requirements(proxyMode string) []requirement {
	r := []requirement{{"iptables", "iptables"}, {"iptables-save", "iptables"}, {"iptables-restore", "iptables"}}
	if proxyMode == "nftables" {
		r = append(r, requirement{"nft", "nftables"})
	}
	return r
}

// minFree is the least room on a disk to start with: the database's first write-ahead log, the logs, and an image or two.
const minFree = 128 << 20

// preflight returns everything that would keep the cluster from starting; nothing has been changed yet.
func preflight(l Layout, o Options) error {
	var errs []error
	missing := map[string]bool{}
	for _, r := range requirements(o.ProxyMode) {
		if _, err := lookPath(r.program); err != nil && !missing[r.debian] {
			missing[r.debian] = true
			errs = append(errs, fmt.Errorf("the program %s is missing; install it with: apt-get install %s", r.program, r.debian))
		}
	}
	for _, d := range append(Daemons(), "podshim") {
		if _, err := os.Stat(l.Bin(d)); err != nil {
			errs = append(errs, fmt.Errorf("the daemon %s is missing; build it with: make build", l.Bin(d)))
		}
	}
	if !kernelHas("overlay") {
		errs = append(errs, errors.New("the kernel has no overlayfs; load it with: modprobe overlay"))
	}
	for _, dir := range []string{l.Etc, l.State, l.Kubelet, l.Run} {
		if err := roomIn(dir); err != nil {
			errs = append(errs, err)
		}
	}
	for _, p := range ports(o) {
		if err := portFree(p); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// lookPath finds a program on PATH or in the administrator's folders, which sudo and cron may leave out.
func lookPath(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", exec.ErrNotFound
}

func kernelHas(filesystem string) bool {
	data, err := os.ReadFile("/proc/filesystems")
	if err != nil || strings.Contains(string(data), "\t"+filesystem+"\n") {
		return true // not knowing is not a reason to refuse
	}
	return exec.Command("modprobe", filesystem).Run() == nil
}

// roomIn checks the disk under dir, or under the nearest folder above it that exists.
func roomIn(dir string) error {
	for d := dir; ; d = filepath.Dir(d) {
		var st syscall.Statfs_t
		err := syscall.Statfs(d, &st)
		if errors.Is(err, fs.ErrNotExist) && d != "/" {
			continue
		}
		if err != nil {
			return fmt.Errorf("look at the disk of %s: %w", dir, err)
		}
		if free := int64(st.Bavail) * st.Bsize; free < minFree {
			return fmt.Errorf("the disk of %s has %d MiB free and a cluster needs at least %d MiB; make room and run this again", dir, free>>20, int64(minFree)>>20)
		}
		return nil
	}
}

// port is an address that a daemon will listen on.
type port struct {
	daemon string
	number uint16
}

// ports are upstream's, so that firewalls and dashboards need no change.
func ports(o Options) []port {
	return []port{{"apiserver", o.Port}, {"kubelet", 10250}, {"kubelet", 10248}, {"scheduler", 10259}, {"controllermanager", 10257}, {"proxy", 10256}, {"proxy", 10249}, {"dns", 9153}}
}

func portFree(p port) error {
	ln, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(int(p.number))))
	if err == nil {
		return ln.Close()
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("port %d of the %s: %w", p.number, p.daemon, err)
	}
	who := listener(p.number)
	if who == "" {
		who = "another process"
	}
	return fmt.Errorf("port %d, which the %s needs, is taken by %s; stop it and run this again", p.number, p.daemon, who)
}

// listener names the process that listens on a TCP port, or returns "".
func listener(number uint16) string {
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		for sc := bufio.NewScanner(f); sc.Scan(); {
			// proc(5): sl local_address rem_address st … inode; state 0A is LISTEN.
			fields := strings.Fields(sc.Text())
			if len(fields) > 9 && fields[3] == "0A" && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", number)) {
				inodes["socket:["+fields[9]+"]"] = true
			}
		}
		f.Close()
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && inodes[target] {
			pid := strings.Split(fd, "/")[2]
			comm, _ := os.ReadFile("/proc/" + pid + "/comm")
			return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(comm)), pid)
		}
	}
	return ""
}
