package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
)

// await waits until the stored node is as wanted.
func await(t *testing.T, s *clienttest.Server, ok func(*corev1.Node) bool) *corev1.Node {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for e, err := range client.Of(s.Client(), client.Nodes()).Watch(ctx, "", client.WatchOptions{}) {
		if err != nil {
			break
		}
		if e.Object != nil && e.Type != client.Deleted && ok(e.Object) {
			return e.Object
		}
	}
	t.Fatal("the node was not reported")
	return nil
}

// awaitLease waits for the first heartbeat.
func awaitLease(t *testing.T, s *clienttest.Server) *coordinationv1.Lease {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for e, err := range client.Of(s.Client(), client.Leases()).Watch(ctx, corev1.NamespaceNodeLease, client.WatchOptions{}) {
		if err != nil {
			break
		}
		if e.Object != nil {
			return e.Object
		}
	}
	t.Fatal("the lease was not made")
	return nil
}

func condition(n *corev1.Node, kind corev1.NodeConditionType) corev1.NodeCondition {
	for _, c := range n.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.NodeCondition{}
}

// TestNodeIsRegisteredAndKept shows registration, the lease, a change of condition, labels that others have added, and that a node that
// is deleted registers again.
func TestNodeIsRegisteredAndKept(t *testing.T) {
	s := clienttest.NewServer(t)
	why := make(chan string, 1)
	why <- "no network yet"
	current := ""
	m := New(Config{
		Name: "n1", IPs: []string{"192.0.2.1"}, MaxPods: 10, Labels: map[string]string{"zone": "a"},
		Facts:    Facts{CPUs: 2, Memory: 8 << 30, Disk: 100 << 30, ReadOnlyMounts: true, Info: corev1.NodeSystemInfo{OperatingSystem: "linux", Architecture: "amd64"}},
		Reserved: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")},
		Checks: func() Checks {
			select {
			case current = <-why:
			default:
			}
			return Checks{NotReady: current}
		},
	}, s.Client(), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = m.Run(ctx) }()
	defer func() { cancel(); <-done }()

	n := await(t, s, func(n *corev1.Node) bool { return condition(n, corev1.NodeReady).Status == corev1.ConditionFalse })
	if c := condition(n, corev1.NodeReady); c.Reason != "KubeletNotReady" || c.Message != "no network yet" {
		t.Errorf("condition: %+v", c)
	}
	if n.Labels[corev1.LabelHostname] != "n1" || n.Labels["zone"] != "a" || n.Status.Addresses[0].Address != "192.0.2.1" {
		t.Errorf("labels %v, addresses %v", n.Labels, n.Status.Addresses)
	}
	if got := n.Status.Allocatable.Memory().Value(); got != 7<<30 {
		t.Errorf("allocatable memory is %d", got)
	}
	if h := n.Status.RuntimeHandlers; len(h) != 1 || h[0].Name != "" || !*h[0].Features.RecursiveReadOnlyMounts || *h[0].Features.UserNamespaces || !*n.Status.Features.SupplementalGroupsPolicy {
		t.Errorf("features are %+v, %+v", h, n.Status.Features)
	}
	why <- ""
	m.Nudge()
	ready := await(t, s, func(n *corev1.Node) bool { return condition(n, corev1.NodeReady).Status == corev1.ConditionTrue })
	if lease := awaitLease(t, s); *lease.Spec.HolderIdentity != "n1" || *lease.Spec.LeaseDurationSeconds != leaseSeconds {
		t.Errorf("lease: %+v", lease)
	}
	if err := client.Of(s.Client(), client.Nodes()).Delete(ctx, "", "n1", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	m.learn(nil)
	m.Nudge()
	await(t, s, func(n *corev1.Node) bool { return n.UID != ready.UID })
}

// TestFacts shows what is read from this host: at least one CPU, memory, huge pages of every size that the kernel knows.
func TestFacts(t *testing.T) {
	f, err := ReadFacts("/", "v1.37.2")
	if err != nil || f.CPUs == 0 || f.Memory == 0 || f.Disk == 0 || f.Info.KernelVersion == "" {
		t.Errorf("%+v, %v", f, err)
	}
	dir := t.TempDir()
	for size, n := range map[string]string{"2048": "3", "1048576": "1"} {
		at := dir + "/hugepages-" + size + "kB"
		if err := errors.Join(os.Mkdir(at, 0o700), os.WriteFile(at+"/nr_hugepages", []byte(n+"\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(hugePages(dir)); got != "map[hugepages-1Gi:1073741824 hugepages-2Mi:6291456]" {
		t.Errorf("huge pages are %s", got)
	}
}

// TestAllocatable shows that reserved resources are taken off, never more than there is.
func TestAllocatable(t *testing.T) {
	capacity := corev1.ResourceList{"cpu": resource.MustParse("2"), "memory": resource.MustParse("4Gi"), "hugepages-2Mi": resource.MustParse("1Gi"), "pods": resource.MustParse("10")}
	got := Allocatable(capacity, corev1.ResourceList{"cpu": resource.MustParse("500m"), "memory": resource.MustParse("9Gi"), "other": resource.MustParse("1")})
	if got.Cpu().MilliValue() != 1500 || got.Memory().Value() > 0 || got.Pods().Value() != 10 || len(got) != 4 {
		t.Errorf("allocatable is %v", got)
	}
}

// TestRebooted shows what is told of a node whose host has been started again, and that a status is not touched while it is not known.
func TestRebooted(t *testing.T) {
	s := clienttest.NewServer(t)
	n := &corev1.Node{}
	n.Name = "n"
	n.Status.NodeInfo.BootID = "before"
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if _, err := client.Of(s.Client(), client.Nodes()).Create(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 20)
	settled := false
	checks := Checks{NotReady: "no network"}
	m := New(Config{Name: "n", Facts: Facts{Info: corev1.NodeSystemInfo{BootID: "after"}}, Settled: func() bool { return settled }, Checks: func() Checks { return checks },
		Event: func(kind, reason, format string, args ...any) { told <- kind + " " + fmt.Sprintf(format, args...) }}, s.Client(), slog.New(slog.DiscardHandler))
	sync := func() *corev1.Node {
		t.Helper()
		if err := m.sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, err := client.Of(s.Client(), client.Nodes()).Get(t.Context(), "", "n")
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := sync(); condition(got, corev1.NodeReady).Status != corev1.ConditionTrue {
		t.Error("the node was said to be unready before that was known")
	}
	settled = true
	if got := sync(); condition(got, corev1.NodeReady).Status != corev1.ConditionFalse {
		t.Error("the node is not said to be unready")
	}
	checks.NotReady = ""
	sync()
	close(told)
	var all []string
	for s := range told {
		all = append(all, s)
	}
	want := "Warning Node n has been rebooted, boot id: after; Normal Node n status is now: NodeHasSufficientMemory; Normal Node n status is now: NodeHasNoDiskPressure; " +
		"Normal Node n status is now: NodeHasSufficientPID; Normal Node n status is now: NodeNotReady; Normal Node n status is now: NodeReady"
	got := strings.Join(all, "; ")
	slices.Sort(all)
	wantAll := strings.Split(want, "; ")
	slices.Sort(wantAll)
	if !slices.Equal(all, wantAll) {
		t.Errorf("told\n%s\nwant\n%s", got, want)
	}
}

// TestAwaitInUse shows that a volume counts as in use when the stored status says so, and no longer when it is given up.
func TestAwaitInUse(t *testing.T) {
	s := clienttest.NewServer(t)
	var volumes atomic.Pointer[[]corev1.UniqueVolumeName]
	volumes.Store(new([]corev1.UniqueVolumeName))
	m := New(Config{Name: "n", VolumesInUse: func() []corev1.UniqueVolumeName { return *volumes.Load() }}, s.Client(), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	short, cancelShort := context.WithCancel(ctx)
	cancelShort()
	if err := m.AwaitInUse(short, "disk"); err == nil || !strings.Contains(err.Error(), "volume disk is in use") {
		t.Errorf("what is not in use: %v", err)
	}
	volumes.Store(&[]corev1.UniqueVolumeName{"disk"})
	if err := m.AwaitInUse(ctx, "disk"); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Of(s.Client(), client.Nodes()).Get(ctx, "", "n"); err != nil || len(n.Status.VolumesInUse) != 1 {
		t.Errorf("the status is %v, %v", n, err)
	}
	volumes.Store(new([]corev1.UniqueVolumeName))
	m.Nudge()
	await(t, s, func(n *corev1.Node) bool { return len(n.Status.VolumesInUse) == 0 })
}
