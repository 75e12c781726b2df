package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// killDaemons kills every daemon in turn with SIGKILL while requests keep coming. No container may restart, no request to the application
// may fail, and each daemon must do its work again afterwards.
func killDaemons(t *testing.T, g guestbook) {
	pids := g.containerPIDs()
	load := g.startLoad()
	for _, d := range []string{"apiserver", "scheduler", "controllermanager", "kubelet", "proxy", "dns"} {
		old := g.daemonPID(d)
		g.Must("kill", "-9", strconv.Itoa(old))
		g.Eventually("the "+d+"'s restart", func() error {
			if now := g.daemonPID(d); now == 0 || now == old {
				return fmt.Errorf("pid is %d", now)
			}
			return nil
		})
		// Work for all of them: a pod more, scheduled, started, put into rules and names, and away again.
		name := "after-" + d
		g.Eventually("creating a deployment after killing "+d, func() error {
			_, err := g.Run("kctl", "-n", "guestbook", "create", "deployment", name, "--image=docker.io/bareboat/guestbook-redis:v1")
			if err != nil && strings.Contains(err.Error(), "AlreadyExists") {
				return nil
			}
			return err
		})
		g.Must("kctl", "-n", "guestbook", "rollout", "status", "deploy/"+name, "--timeout=90s")
		g.Must("kctl", "-n", "guestbook", "delete", "deploy", name)
		entry := "entry-after-" + d
		g.Eventually("signing after killing "+d, func() error { return g.sign(entry) })
		g.mustHold(entry)
	}
	g.Eventually("the end of the pods that were deleted", func() error {
		if out := g.Must("kctl", "-n", "guestbook", "get", "pods", "-o", "name"); strings.Contains(out, "after-") {
			return fmt.Errorf("pods are\n%s", out)
		}
		return nil
	})
	requests, failures := load()
	t.Logf("%d requests under load, %d failed", requests, len(failures))
	if len(failures) > 0 {
		t.Errorf("%d of %d requests failed while daemons were killed, the first: %s", len(failures), requests, failures[0])
	}
	if after := g.containerPIDs(); after != pids {
		t.Errorf("containers' processes were\n%s\nand are\n%s", pids, after)
	}
}

// containerPIDs lists the processes of the application, which no daemon's death may change.
func (g guestbook) containerPIDs() string {
	g.t.Helper()
	return g.Must("sh", "-c", "for p in /web /api redis-server; do pgrep -a -f \"^$p\" | sort -n; pgrep -f \"^/usr/bin/$p\" | sort -n; done")
}

func (g guestbook) daemonPID(daemon string) int {
	out, err := g.Run("sh", "-c", `sed 's/.*"pid":\([0-9]*\).*/\1/' /run/bareboat/status/`+daemon+".json")
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(out))
	return pid
}

// startLoad asks the application for its page again and again; the returned function stops it and says how many requests
// were made and which failed.
func (g guestbook) startLoad() func() (requests int64, failures []string) {
	ctx, cancel := context.WithCancel(context.Background())
	var count atomic.Int64
	var mu sync.Mutex
	var failures []string
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			out, err := g.Command(context.Background(), "curl", "-sS", "--fail", "--max-time", "5", "-o", "/dev/null", g.url+"/healthz").CombinedOutput()
			count.Add(1)
			if err != nil {
				mu.Lock()
				failures = append(failures, time.Now().Format(time.TimeOnly)+" "+strings.TrimSpace(string(out)))
				mu.Unlock()
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond): // 50 requests a second at most
			}
		}
	})
	return func() (int64, []string) {
		cancel()
		wg.Wait()
		return count.Load(), failures
	}
}
