package podresources

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	api "k8s.io/kubelet/pkg/apis/podresources/v1"
	"sigs.k8s.io/yaml"

	"bareboat.dev/kubelet/device"
	"bareboat.dev/kubelet/dra"
	"bareboat.dev/kubelet/numa"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// given is what the only container has that has anything.
type given struct{}

func is(uid types.UID, container string) bool { return uid == "one" && container == "app" }

func (given) Given(uid types.UID, container string) map[string][]device.Device {
	if !is(uid, container) {
		return nil
	}
	return map[string][]device.Device{"example.com/gpu": {{ID: "a", Nodes: []int{0, 1}}, {ID: "b"}}}
}

func (given) All() map[string][]device.Device {
	return map[string][]device.Device{"example.com/gpu": {{ID: "a", Nodes: []int{0, 1}}, {ID: "b"}, {ID: "c"}}}
}

type cpus struct{}

func (cpus) Allocatable() []int { return []int{1, 2, 3} }
func (cpus) Own(uid types.UID, container string) []int {
	if !is(uid, container) {
		return nil
	}
	return []int{2, 3}
}

type memory struct{}

func (memory) Allocatable() []numa.Block {
	return []numa.Block{{Resource: "memory", Nodes: numa.SetOf(0), Size: 100}, {Resource: "memory", Nodes: numa.SetOf(1), Size: 200}}
}

func (memory) Blocks(uid types.UID, container string) []numa.Block {
	if !is(uid, container) {
		return nil
	}
	return []numa.Block{{Resource: "memory", Nodes: numa.SetOf(0, 1), Size: 150}}
}

type claims struct{}

func (claims) Given(_ *corev1.Pod, c *corev1.Container) []dra.Given {
	if len(c.Resources.Claims) == 0 {
		return nil
	}
	return []dra.Given{{Claim: "one-card", Devices: []dra.Device{{Driver: "cards.example.com", Pool: "p", Name: "d", CDI: []string{"example.com/card=1"}}}}}
}

// TestServer shows what agents are told: who has what, one pod's, and what there is to be had; and that who asks too much has to wait.
func TestServer(t *testing.T) {
	var pods []*corev1.Pod
	for uid, spec := range map[string]string{"one": `
initContainers: [{name: init}, {name: side, restartPolicy: Always, resources: {claims: [{name: card}]}}]
containers: [{name: app}]`, "two": `containers: [{name: app}]`} {
		p := &corev1.Pod{}
		p.Namespace, p.Name, p.UID = "default", uid, types.UID(uid)
		if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
			t.Fatal(err)
		}
		pods = append(pods, p)
	}
	dir := t.TempDir()
	s := New(Config{Dir: dir, Pods: func() []*corev1.Pod { return pods }, Devices: given{}, CPUs: cpus{}, Memory: memory{}, Claims: claims{}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	conn, err := grpc.NewClient("unix://"+filepath.Join(dir, socketName), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := api.NewPodResourcesListerClient(conn)
	list, err := c.List(t.Context(), &api.ListPodResourcesRequest{}, grpc.WaitForReady(true))
	if err != nil || len(list.GetPodResources()) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	text := func(x any) string { return strings.Join(strings.Fields(fmt.Sprint(x)), " ") } // the text form's blanks differ from run to run
	one, err := c.Get(t.Context(), &api.GetPodResourcesRequest{PodNamespace: "default", PodName: "one"})
	const want = `pod_resources:{name:"one" namespace:"default" containers:{name:"side" dynamic_resources:{claim_name:"one-card" claim_namespace:"default" ` +
		`claim_resources:{cdi_devices:{name:"example.com/card=1"} driver_name:"cards.example.com" pool_name:"p" device_name:"d"}}} ` +
		`containers:{name:"app" devices:{resource_name:"example.com/gpu" device_ids:"a" topology:{nodes:{} nodes:{ID:1}}} devices:{resource_name:"example.com/gpu" device_ids:"b"} ` +
		`cpu_ids:2 cpu_ids:3 memory:{memory_type:"memory" size:150 topology:{nodes:{} nodes:{ID:1}}}}}`
	if err != nil || text(one) != want {
		t.Errorf("one has\n%s, %v; want\n%s", text(one), err, want)
	}
	all, err := c.GetAllocatableResources(t.Context(), &api.AllocatableResourcesRequest{})
	if err != nil || len(all.GetDevices()) != 3 || fmt.Sprint(all.GetCpuIds()) != "[1 2 3]" || len(all.GetMemory()) != 2 || all.GetMemory()[1].GetSize() != 200 {
		t.Errorf("there is %v, %v", all, err)
	}
	if _, err := c.Get(t.Context(), &api.GetPodResourcesRequest{PodNamespace: "default", PodName: "none"}); err == nil || !strings.Contains(err.Error(), "pod none in namespace default not found") {
		t.Errorf("a pod that is not there: %v", err)
	}
	s.limit.SetBurst(0)
	if _, err := c.List(t.Context(), &api.ListPodResourcesRequest{}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("who asks too much: %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
