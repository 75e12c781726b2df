package agent_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
	"bareboat.dev/proxy/agent"
	"bareboat.dev/proxy/conntrack"
	"bareboat.dev/proxy/internal/lab"
	"bareboat.dev/proxy/internal/suite"
	"bareboat.dev/proxy/iptables"
	"bareboat.dev/proxy/nftables"
	"bareboat.dev/proxy/plan"
)

// childEnv makes this test binary an agent; its value is the mode and the generation, by comma.
const childEnv = "PROXY_TEST_AGENT"

// Not a test: with childEnv set it is the agent that TestKilledUnderTraffic kills. It has an API server of its own, whose
// services differ a little in each generation, so that every start finds something to change.
func TestChildAgent(t *testing.T) {
	mode, generation, is := strings.Cut(os.Getenv(childEnv), ",")
	if !is {
		return
	}
	api := clienttest.NewServer(t)
	c := api.Client()
	eps := []string{"10.244.0.2", "10.244.0.3"}
	if generation == "1" {
		eps = append(eps, "10.244.0.4")
	}
	web := service("web", "10.96.0.7")
	web.Spec.Type, web.Spec.Ports[0].NodePort = "NodePort", 30080
	for _, o := range []client.Object{web, slice("web-1", "web", eps...), service("g"+generation, "10.96.1.1")} {
		(&world{T: t, c: c}).create(o)
	}
	a, err := applier(mode)
	if err != nil {
		t.Fatal(err)
	}
	t.Fatal(agent.New(c, agent.Config{
		NodeName: "node", Families: []agent.Family{{Family: plan.IPv4, Applier: a}}, Sweep: conntrack.Sweep,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Ready: func() { fmt.Println("ready") },
	}).Run(context.Background()))
}

func applier(mode string) (agent.Applier, error) {
	switch mode {
	case "iptables":
		return iptables.New(iptables.Config{Family: plan.IPv4, ClusterCIDRs: suite.ClusterCIDRs()})
	case "nftables":
		return nftables.New(nftables.Config{Family: plan.IPv4, ClusterCIDRs: suite.ClusterCIDRs()})
	}
	return nil, fmt.Errorf("no mode %q", mode)
}

// The agent is killed and started again, three times, while clients keep connecting and one connection stays open; with
// each start rules change. Not one connection fails, and not one answer is missing.
func TestKilledUnderTraffic(t *testing.T) {
	for _, mode := range []string{"iptables", "nftables"} {
		t.Run(mode, func(t *testing.T) { killedUnderTraffic(t, mode) })
	}
}

func killedUnderTraffic(t *testing.T, mode string) {
	l := lab.New(t)
	for i, name := range []string{"a", "b", "c"} {
		l.Pod(name, 2+i).ServeTCP(":8080")
	}
	pod := l.Pod("pod", 9)
	child := startChild(t, l, mode, 0)
	open, err := pod.Dial("tcp", "10.96.0.7:80")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()

	stop := make(chan struct{})
	var traffic sync.WaitGroup
	requests := make([]int, 3)
	run := func(i int, ask func() error) {
		traffic.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := ask(); err != nil {
					t.Errorf("after %d requests: %v", requests[i], err)
					return
				}
				requests[i]++
			}
		})
	}
	run(0, func() error { _, err := l.Client.AskTCP("192.168.50.1:30080"); return err })
	run(1, func() error { _, err := pod.AskTCP("10.96.0.7:80"); return err })
	run(2, func() error { _, err := lab.Ask(open); return err })
	for generation := 1; generation <= 3; generation++ {
		child.Process.Kill()
		child.Wait()
		child = startChild(t, l, mode, generation%2)
	}
	close(stop)
	traffic.Wait()
	for i, n := range requests {
		if n == 0 {
			t.Errorf("client %d made no request", i)
		}
	}
	t.Logf("requests: %v", requests)
}

// startChild starts an agent process inside the node and waits until it has applied its rules.
func startChild(t *testing.T, l *lab.Lab, mode string, generation int) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChildAgent$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s,%d", childEnv, mode, generation))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	l.Node.Start(cmd)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == "ready" {
			return cmd
		}
	}
	t.Fatal("the agent ended before it was ready")
	return nil
}
