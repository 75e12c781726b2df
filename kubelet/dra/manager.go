package dra

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	api "k8s.io/kubelet/pkg/apis/dra/v1"
)

// API is what is needed of the API server: a claim as it is now.
type API interface {
	ResourceClaim(ctx context.Context, namespace, name string) (*resourcev1.ResourceClaim, error)
}

// Config is what a manager is told.
type Config struct {
	// Root is the kubelet's directory, /var/lib/kubelet.
	Root string
	API  API
	// CDI are the directories of CDI files; none for the usual ones, /etc/cdi and /var/run/cdi.
	CDI []string
	Log *slog.Logger
}

// Manager gives pods the devices of their claims.
type Manager struct {
	c    Config
	file string
	// asking is held by who asks drivers for something, so that they are asked one thing at a time.
	asking chan struct{}
	// ended wakes Run when there are claims to give back.
	ended chan struct{}

	mu     sync.Mutex
	claims map[types.UID]*claim
	// drivers are those that have registered, by their sockets.
	drivers map[string]registered
}

// New reads what an earlier kubelet has noted.
func New(c Config) (*Manager, error) {
	m := &Manager{c: c, file: filepath.Join(c.Root, "dra_claims.json"), asking: make(chan struct{}, 1), ended: make(chan struct{}, 1), drivers: map[string]registered{}}
	if err := os.MkdirAll(c.Root, 0o750); err != nil {
		return nil, err
	}
	var err error
	m.claims, err = load(m.file)
	return m, err
}

// retryPause is when claims are given back again that could not be.
const retryPause = 30 * time.Second

func (m *Manager) wake() {
	select {
	case m.ended <- struct{}{}:
	default: // it will look at everything anyway
	}
}

// ClaimName returns the claim that an entry of a pod stands for; empty if none is needed.
func ClaimName(p *corev1.Pod, pc *corev1.PodResourceClaim) (string, error) {
	if pc.ResourceClaimName != nil {
		return *pc.ResourceClaimName, nil
	}
	for _, s := range p.Status.ResourceClaimStatuses {
		if s.Name == pc.Name {
			if s.ResourceClaimName == nil {
				return "", nil
			}
			return *s.ResourceClaimName, nil
		}
	}
	return "", fmt.Errorf("pod %q: ResourceClaim not created yet", p.Namespace+"/"+p.Name)
}

// Prepare has the claims of a pod prepared; once they are it does nothing. It may be called again after it has failed.
func (m *Manager) Prepare(ctx context.Context, p *corev1.Pod) error {
	if len(p.Spec.ResourceClaims) == 0 {
		return nil
	}
	select {
	case m.asking <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-m.asking }()
	if err := m.unprepare(ctx); err != nil { // devices of claims that have ended may be among those of this pod's
		m.c.Log.Warn("claims were not given back", "error", err)
	}
	var todo []*claim
	for i := range p.Spec.ResourceClaims {
		name, err := ClaimName(p, &p.Spec.ResourceClaims[i])
		if err != nil {
			return err
		}
		if name == "" || slices.ContainsFunc(todo, func(c *claim) bool { return c.Name == name }) {
			continue
		}
		c, err := m.use(ctx, p, name)
		if err != nil {
			return err
		}
		if !c.Prepared {
			todo = append(todo, c)
		}
	}
	return m.ask(ctx, todo)
}

// use notes that a pod uses a claim, if it may, and returns a copy of what is known of it.
func (m *Manager) use(ctx context.Context, p *corev1.Pod, name string) (*claim, error) {
	obj, err := m.c.API.ResourceClaim(ctx, p.Namespace, name)
	if err != nil {
		return nil, fmt.Errorf("fetch ResourceClaim %s/%s: %w", p.Namespace, name, err)
	}
	if obj.Status.Allocation == nil {
		return nil, fmt.Errorf("ResourceClaim %s/%s is not allocated", p.Namespace, name)
	}
	if !slices.ContainsFunc(obj.Status.ReservedFor, func(r resourcev1.ResourceClaimConsumerReference) bool { return r.UID == p.UID }) {
		return nil, fmt.Errorf("pod %s (%s) is not allowed to use ResourceClaim %s/%s (%s)", p.Name, p.UID, p.Namespace, name, obj.UID)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.claims[obj.UID]
	if c == nil {
		c = &claim{UID: obj.UID, Namespace: p.Namespace, Name: name}
		c.Drivers, c.Kept = drivers(obj.Status.Allocation)
		m.claims[obj.UID] = c
	} else if len(c.Pods) == 0 {
		return nil, fmt.Errorf("ResourceClaim %s/%s: an earlier use has not been undone yet", p.Namespace, name)
	}
	if !slices.Contains(c.Pods, p.UID) {
		c.Pods = append(c.Pods, p.UID)
		if err := m.saveLocked(); err != nil {
			if c.Pods = slices.DeleteFunc(c.Pods, func(uid types.UID) bool { return uid == p.UID }); len(c.Pods) == 0 {
				delete(m.claims, obj.UID)
			}
			return nil, fmt.Errorf("note who uses ResourceClaim %s/%s: %w", p.Namespace, name, err)
		}
	}
	copied := *c
	return &copied, nil
}

// drivers are those that have to prepare an allocation, and those of them that need not be asked to give it back.
func drivers(a *resourcev1.AllocationResult) (ask, kept []string) {
	skips := func(r *resourcev1.DeviceRequestAllocationResult, op resourcev1.SkipNodeOperation) bool {
		return slices.Contains(r.SkipNodeOperations, op) || slices.Contains(r.SkipNodeOperations, resourcev1.SkipNodeOperationAll)
	}
	unprepare := map[string]bool{}
	for i := range a.Devices.Results {
		r := &a.Devices.Results[i]
		if !skips(r, resourcev1.SkipNodeOperationNodePrepareResources) && !slices.Contains(ask, r.Driver) {
			ask = append(ask, r.Driver)
		}
		unprepare[r.Driver] = unprepare[r.Driver] || !skips(r, resourcev1.SkipNodeOperationNodeUnprepareResources)
	}
	for _, name := range ask {
		if !unprepare[name] {
			kept = append(kept, name)
		}
	}
	return ask, kept
}

// ask has claims prepared by their drivers, each driver's in one request.
func (m *Manager) ask(ctx context.Context, todo []*claim) error {
	byDriver := map[string][]*api.Claim{}
	for _, c := range todo {
		for _, name := range c.Drivers {
			byDriver[name] = append(byDriver[name], c.wire())
		}
	}
	devices := map[types.UID][]Device{}
	for _, name := range slices.Sorted(maps.Keys(byDriver)) {
		d, err := m.find(name)
		if err != nil {
			return err
		}
		answers, err := d.prepareClaims(ctx, byDriver[name])
		if err != nil {
			return err
		}
		for _, c := range byDriver[name] {
			for _, x := range answers[c.GetUid()].GetDevices() {
				devices[types.UID(c.GetUid())] = append(devices[types.UID(c.GetUid())], Device{
					Driver: name, Pool: x.GetPoolName(), Name: x.GetDeviceName(), Share: x.ShareId, Requests: x.GetRequestNames(), CDI: x.GetCdiDeviceIds(),
				})
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range todo {
		if known := m.claims[c.UID]; known != nil {
			known.Prepared, known.Devices = true, devices[c.UID]
		}
	}
	if len(todo) == 0 {
		return nil
	}
	return m.saveLocked()
}

func (c *claim) wire() *api.Claim {
	return &api.Claim{Namespace: c.Namespace, Uid: string(c.UID), Name: c.Name}
}

// Given is what a container has of a claim.
type Given struct {
	// Claim is the claim's name; its namespace is the pod's.
	Claim   string
	Devices []Device
}

// Given tells what a container has of the claims that it names, as far as they are prepared.
func (m *Manager) Given(p *corev1.Pod, c *corev1.Container) []Given {
	all, _ := m.given(p, c)
	return all
}

// given tells what a container has of the claims, or of the requests of claims, that it names; also if some are not prepared.
func (m *Manager) given(p *corev1.Pod, c *corev1.Container) (all []Given, _ error) {
	for _, want := range c.Resources.Claims {
		i := slices.IndexFunc(p.Spec.ResourceClaims, func(pc corev1.PodResourceClaim) bool { return pc.Name == want.Name })
		if i < 0 {
			return all, fmt.Errorf("container %s names claim %q, which the pod has not", c.Name, want.Name)
		}
		name, err := ClaimName(p, &p.Spec.ResourceClaims[i])
		if err != nil {
			return all, err
		}
		if name == "" {
			continue
		}
		found, err := m.prepared(p, name)
		if err != nil {
			return all, err
		}
		all = append(all, Given{name, slices.DeleteFunc(found, func(d Device) bool { return !d.serves(want.Request) })})
	}
	return all, nil
}

// devicesOf lists the CDI devices of a container.
func (m *Manager) devicesOf(p *corev1.Pod, c *corev1.Container) ([]string, error) {
	all, err := m.given(p, c)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, g := range all {
		for _, d := range g.Devices {
			ids = append(ids, d.CDI...)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// serves tells whether a device is for a request; empty for any. Devices of subrequests are named request/subrequest.
func (d Device) serves(request string) bool {
	return request == "" || len(d.Requests) == 0 || slices.ContainsFunc(d.Requests, func(r string) bool {
		base, _, _ := strings.Cut(r, "/")
		return base == request
	})
}

func (m *Manager) prepared(p *corev1.Pod, name string) ([]Device, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.claims {
		if c.Namespace == p.Namespace && c.Name == name && c.Prepared && slices.Contains(c.Pods, p.UID) {
			return slices.Clone(c.Devices), nil
		}
	}
	return nil, fmt.Errorf("ResourceClaim %s/%s is not prepared", p.Namespace, name)
}

// Release notes that a pod has ended. Its claims are given back soon, if no other pod uses them, and before any are prepared.
func (m *Manager) Release(uid types.UID) error {
	return m.Retain(func(other types.UID) bool { return other != uid })
}

// Retain notes that all pods have ended but those to keep.
func (m *Manager) Retain(keep func(types.UID) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed := false
	for _, c := range m.claims {
		n := len(c.Pods)
		c.Pods = slices.DeleteFunc(c.Pods, func(uid types.UID) bool { return !keep(uid) })
		changed = changed || len(c.Pods) < n
	}
	if !changed {
		return nil
	}
	m.wake()
	return m.saveLocked()
}

// Run gives claims back that no pod uses, until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.ended:
		case <-again.C:
		}
		select {
		case m.asking <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		err := m.unprepare(ctx)
		<-m.asking
		if err != nil && ctx.Err() == nil {
			m.c.Log.Warn("claims were not given back", "error", err)
			again.Reset(retryPause)
		}
	}
}

// unprepare has the claims given back that no pod uses. Only who is asking may call it.
func (m *Manager) unprepare(ctx context.Context) error {
	m.mu.Lock()
	var unused []claim
	for _, c := range m.claims {
		if len(c.Pods) == 0 {
			unused = append(unused, *c)
		}
	}
	m.mu.Unlock()
	var all error
	for _, c := range unused {
		if err := m.unprepareOne(ctx, &c); err != nil {
			all = errors.Join(all, err)
			continue
		}
		m.mu.Lock()
		delete(m.claims, c.UID)
		all = errors.Join(all, m.saveLocked())
		m.mu.Unlock()
	}
	return all
}

func (m *Manager) unprepareOne(ctx context.Context, c *claim) error {
	for _, name := range c.Drivers {
		if slices.Contains(c.Kept, name) {
			continue
		}
		d, err := m.find(name)
		if err != nil {
			return fmt.Errorf("claim %s/%s: %w", c.Namespace, c.Name, err)
		}
		if err := d.unprepareClaim(ctx, c.wire()); err != nil {
			return err
		}
	}
	return nil
}
