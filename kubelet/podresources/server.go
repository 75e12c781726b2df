// Package podresources tells which devices, CPUs and memory containers have alone, as monitoring agents and device plug-ins ask for it: the
// kubelet's pod resources API, v1, at pod-resources/kubelet.sock in the kubelet's directory
// (https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/#monitoring-device-plugin-resources).
//
//	s := podresources.New(podresources.Config{Dir: "/var/lib/kubelet/pod-resources", Pods: agent.ActivePods, Devices: devices, CPUs: cpus, Memory: memory, Claims: claims})
//	err := s.Run(ctx)
//
// List tells of the pods that have not ended, with their containers and sidecars; Get of one of them; GetAllocatableResources of all that there
// is to be had. Whoever asks more than [requestsPerSecond] times a second is told RESOURCE_EXHAUSTED.
package podresources

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	api "k8s.io/kubelet/pkg/apis/podresources/v1"

	"bareboat.dev/kubelet/device"
	"bareboat.dev/kubelet/dra"
	"bareboat.dev/kubelet/numa"
)

const (
	// socketName is the socket's; agents know it.
	socketName = "kubelet.sock"
	// requestsPerSecond and requestsAtOnce bound what all who ask cost (upstream's limits): a list walks all pods.
	requestsPerSecond = 100
	requestsAtOnce    = 10
)

// Devices is what is needed of device plug-ins; [device.Manager] is one.
type Devices interface {
	Given(uid types.UID, container string) map[string][]device.Device
	All() map[string][]device.Device
}

// CPUs is what is needed of who gives CPUs away; [cpus.Manager] is one.
type CPUs interface {
	Own(uid types.UID, container string) []int
	Allocatable() []int
}

// Memory is what is needed of who promises memory; [memory.Manager] is one.
type Memory interface {
	Blocks(uid types.UID, container string) []numa.Block
	Allocatable() []numa.Block
}

// Claims is what is needed of who has resource claims prepared; [dra.Manager] is one.
type Claims interface {
	Given(p *corev1.Pod, c *corev1.Container) []dra.Given
}

// Config is what a server tells of.
type Config struct {
	// Dir is where the socket is made.
	Dir string
	// Pods are those that have not ended.
	Pods    func() []*corev1.Pod
	Devices Devices
	CPUs    CPUs
	Memory  Memory
	Claims  Claims
}

// Server answers. Make one with New, then call Run.
type Server struct {
	api.UnimplementedPodResourcesListerServer
	c        Config
	limit    *rate.Limiter
	requests *prometheus.CounterVec
	byMethod map[string]*prometheus.CounterVec
	missing  *prometheus.CounterVec
}

// New makes a server; nothing runs before Run.
func New(c Config) *Server {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubelet_pod_resources_endpoint_" + name, Help: help}, []string{"server_api_version"})
	}
	return &Server{
		c: c, limit: rate.NewLimiter(requestsPerSecond, requestsAtOnce), requests: counter("requests_total", "Requests of the pod resources API."),
		byMethod: map[string]*prometheus.CounterVec{
			api.PodResourcesLister_List_FullMethodName:                    counter("requests_list", "Requests of List."),
			api.PodResourcesLister_Get_FullMethodName:                     counter("requests_get", "Requests of Get."),
			api.PodResourcesLister_GetAllocatableResources_FullMethodName: counter("requests_get_allocatable", "Requests of GetAllocatableResources."),
		},
		missing: counter("errors_get", "Requests of Get that failed."),
	}
}

// Register gives the server's metrics to a registry.
func (s *Server) Register(r prometheus.Registerer) {
	r.MustRegister(s.requests, s.missing)
	for _, c := range s.byMethod {
		r.MustRegister(c)
	}
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	if err := os.MkdirAll(s.c.Dir, 0o750); err != nil {
		return err
	}
	path := filepath.Join(s.c.Dir, socketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // of an earlier kubelet
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("pod resources API: %w", err)
	}
	g := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if !s.limit.Allow() {
			return nil, status.Error(codes.ResourceExhausted, "rejected by rate limit")
		}
		s.count(info.FullMethod)
		return next(ctx, request)
	}))
	api.RegisterPodResourcesListerServer(g, s)
	stop := context.AfterFunc(ctx, g.Stop)
	defer stop()
	if err := g.Serve(l); !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

func (s *Server) count(method string) {
	const version = "v1"
	s.requests.WithLabelValues(version).Inc()
	if c := s.byMethod[method]; c != nil {
		c.WithLabelValues(version).Inc()
	}
}

// List implements the service.
func (s *Server) List(context.Context, *api.ListPodResourcesRequest) (*api.ListPodResourcesResponse, error) {
	r := &api.ListPodResourcesResponse{}
	for _, p := range s.c.Pods() {
		r.PodResources = append(r.PodResources, s.pod(p))
	}
	return r, nil
}

// Get implements the service.
func (s *Server) Get(_ context.Context, r *api.GetPodResourcesRequest) (*api.GetPodResourcesResponse, error) {
	for _, p := range s.c.Pods() {
		if p.Namespace == r.GetPodNamespace() && p.Name == r.GetPodName() {
			return &api.GetPodResourcesResponse{PodResources: s.pod(p)}, nil
		}
	}
	s.missing.WithLabelValues("v1").Inc()
	return nil, fmt.Errorf("pod %s in namespace %s not found", r.GetPodName(), r.GetPodNamespace())
}

// GetAllocatableResources implements the service.
func (s *Server) GetAllocatableResources(context.Context, *api.AllocatableResourcesRequest) (*api.AllocatableResourcesResponse, error) {
	return &api.AllocatableResourcesResponse{Devices: devices(s.c.Devices.All()), CpuIds: ids(s.c.CPUs.Allocatable()), Memory: blocks(s.c.Memory.Allocatable())}, nil
}

// pod tells what a pod's sidecars and containers have. Its other init containers have ended, or will have.
func (s *Server) pod(p *corev1.Pod) *api.PodResources {
	r := &api.PodResources{Name: p.Name, Namespace: p.Namespace}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			r.Containers = append(r.Containers, s.container(p, c))
		}
	}
	for i := range p.Spec.Containers {
		r.Containers = append(r.Containers, s.container(p, &p.Spec.Containers[i]))
	}
	return r
}

func (s *Server) container(p *corev1.Pod, c *corev1.Container) *api.ContainerResources {
	r := &api.ContainerResources{
		Name: c.Name, Devices: devices(s.c.Devices.Given(p.UID, c.Name)), CpuIds: ids(s.c.CPUs.Own(p.UID, c.Name)), Memory: blocks(s.c.Memory.Blocks(p.UID, c.Name)),
	}
	for _, g := range s.c.Claims.Given(p, c) {
		claim := &api.DynamicResource{ClaimName: g.Claim, ClaimNamespace: p.Namespace}
		for _, d := range g.Devices {
			one := &api.ClaimResource{DriverName: d.Driver, PoolName: d.Pool, DeviceName: d.Name, ShareId: d.Share}
			for _, name := range d.CDI {
				one.CdiDevices = append(one.CdiDevices, &api.CDIDevice{Name: name})
			}
			claim.ClaimResources = append(claim.ClaimResources, one)
		}
		r.DynamicResources = append(r.DynamicResources, claim)
	}
	return r
}

// devices are told one by one, with the NUMA nodes of each.
func devices(byResource map[string][]device.Device) (all []*api.ContainerDevices) {
	for _, name := range slices.Sorted(maps.Keys(byResource)) {
		for _, d := range byResource[name] {
			all = append(all, &api.ContainerDevices{ResourceName: name, DeviceIds: []string{d.ID}, Topology: nodes(d.Nodes)})
		}
	}
	return all
}

func blocks(list []numa.Block) (all []*api.ContainerMemory) {
	for _, b := range list {
		all = append(all, &api.ContainerMemory{MemoryType: b.Resource, Size: uint64(b.Size), Topology: nodes(b.Nodes.List())})
	}
	return all
}

func nodes(list []int) *api.TopologyInfo {
	if len(list) == 0 {
		return nil
	}
	t := &api.TopologyInfo{}
	for _, id := range list {
		t.Nodes = append(t.Nodes, &api.NUMANode{ID: int64(id)})
	}
	return t
}

func ids(list []int) (all []int64) {
	for _, id := range list {
		all = append(all, int64(id))
	}
	return all
}
