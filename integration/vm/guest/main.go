// Command guest is the first process of the virtual machine that package vm boots. In the initial RAM disk it loads the modules that the
// disk needs, mounts the disk and starts itself anew there; there it makes what a host has (the usual mounts, cgroup v2 alone, a
// loopback interface), runs the plan's jobs and turns the machine off.
package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"bareboat.dev/integration/vm/plan"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest is the first process of a virtual machine; see package vm")
		os.Exit(2)
	}
	var err error
	if _, statErr := os.Stat(plan.Modules); statErr == nil {
		err = startFromDisk()
	} else {
		err = work()
	}
	if err != nil {
		fmt.Println("guest:", err) // the console
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}
