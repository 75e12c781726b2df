// Package dirwatchtest runs tests where inotify is used up, without using up the host's: in a user namespace of their own, whose limit
// (/proc/sys/user/max_inotify_instances) is lowered to nothing.
package dirwatchtest

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// inside tells the test binary that it runs in the namespace.
const inside = "BAREBOAT_TEST_NO_INOTIFY"

// Exhausted runs the calling test again in a process for which inotify is used up, and returns true in that process only. In the
// calling one it fails the test if it failed there.
//
//	func TestX(t *testing.T) {
//		if !dirwatchtest.Exhausted(t) {
//			return
//		}
//		…
func Exhausted(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inside) != "" {
		if err := os.WriteFile("/proc/sys/user/max_inotify_instances", []byte("0"), 0); err != nil {
			t.Fatal("forbid inotify in the test's own user namespace: ", err)
		}
		return true
	}
	if os.Geteuid() != 0 {
		t.Fatal("this test makes a user namespace and must run as root")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v=true")
	cmd.Env = append(os.Environ(), inside+"=1")
	root := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 65536}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, UidMappings: root, GidMappings: root, Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("where inotify is used up: %v\n%s", err, out)
	}
	return false
}
