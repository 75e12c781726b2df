package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// runcBundle makes a bundle that runs busybox's true, as small as a container gets.
func runcBundle(e *Env) string {
	dir, err := os.MkdirTemp("", "bench-runc-")
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { os.RemoveAll(dir) })
	for _, args := range [][]string{
		{"mkdir", "-p", filepath.Join(dir, "rootfs/bin")},
		{"cp", "/bin/busybox", filepath.Join(dir, "rootfs/bin/true")},
		{"runc", "spec", "--bundle", dir},
		{"sed", "-i", `s/"terminal": true/"terminal": false/; s/"sh"/"true"/`, filepath.Join(dir, "config.json")},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			e.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	return dir
}

// runcOnce is the floor of a pod's start: a network namespace, and a container that ends at once.
func runcOnce(e *Env, bundle string, i int) time.Duration {
	netns := fmt.Sprintf("bench-%d-%d", os.Getpid(), i)
	start := time.Now()
	if out, err := exec.Command("ip", "netns", "add", netns).CombinedOutput(); err != nil {
		e.Fatalf("ip netns add: %v: %s", err, out)
	}
	out, err := exec.Command("runc", "run", "--bundle", bundle, netns).CombinedOutput()
	d := time.Since(start)
	_ = exec.Command("ip", "netns", "del", netns).Run()
	if err != nil {
		e.Fatalf("runc run: %v: %s", err, out)
	}
	return d
}
