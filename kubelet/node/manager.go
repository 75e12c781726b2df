package node

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
)

// Config is what the node is told of itself.
type Config struct {
	Name    string
	IPs     []string
	Port    int32
	MaxPods int
	// Reserved is what pods do not get: the system's and the daemons' own.
	Reserved corev1.ResourceList
	Labels   map[string]string
	Taints   []corev1.Taint
	// ProviderID is the machine's name with its provider, if any.
	ProviderID string
	Facts      Facts
	// Images lists what the node's store has; Checks says what is wrong with the node, by condition.
	Images func() []corev1.ContainerImage
	Checks func() Checks
	// Devices are the extended resources that device plug-ins look after: all, and those in order; nil for none.
	Devices func() (capacity, allocatable corev1.ResourceList)
	// VolumesInUse are the attached volumes that pods use, which nobody must detach; nil for none.
	VolumesInUse func() []corev1.UniqueVolumeName
	// Settled says whether what Checks says can be told; nil for always. A kubelet that has just started does not know yet whether its
	// network stands, and must not say that a node is not ready that has been all the time.
	Settled func() bool
	// Event records an event about the node; nil for none.
	Event func(kind, reason, format string, args ...any)
}

// Checks are the node's own findings about itself.
type Checks struct {
	// NotReady says why the node can not run pods; empty if it can.
	NotReady                           string
	MemoryPressure, DiskPressure, PIDs bool
}

const (
	// reportEvery is how often an unchanged status is written (upstream's nodeStatusReportFrequency).
	reportEvery = 5 * time.Minute
	// retryEvery is how long a write that failed waits at most.
	retryEvery = time.Second
	// imagesMax bounds the images in the status, the largest first, as upstream's nodeStatusMaxImages.
	imagesMax = 50
)

// Manager keeps the node's objects.
type Manager struct {
	c      Config
	client *client.Client
	log    *slog.Logger
	kick   chan struct{}

	mu   sync.Mutex
	node *corev1.Node
	// learned is closed when node changes.
	learned chan struct{}
}

// New makes a manager; nothing is written before Run.
func New(c Config, cl *client.Client, log *slog.Logger) *Manager {
	return &Manager{c: c, client: cl, log: log, kick: make(chan struct{}, 1), learned: make(chan struct{})}
}

// Addresses are the node's IP addresses, the primary one first.
func (m *Manager) Addresses() []string { return m.c.IPs }

// Capacity is what the node has.
func (m *Manager) Capacity() corev1.ResourceList {
	list := m.c.Facts.Capacity(m.c.MaxPods)
	if m.c.Devices != nil {
		devices, _ := m.c.Devices()
		maps.Copy(list, devices)
	}
	return list
}

// Allocatable is what pods may ask for.
func (m *Manager) Allocatable() corev1.ResourceList {
	list := Allocatable(m.c.Facts.Capacity(m.c.MaxPods), m.c.Reserved)
	if m.c.Devices != nil {
		_, devices := m.c.Devices()
		maps.Copy(list, devices)
	}
	return list
}

// Object is the node's object as it was last seen; nil while it is not known to be registered. It must not be modified.
func (m *Manager) Object() *corev1.Node { return m.known() }

// Pressure are the conditions of shortage that are true now.
func (m *Manager) Pressure() (list []corev1.NodeConditionType) {
	if m.c.Checks == nil {
		return nil
	}
	c := m.c.Checks()
	for _, p := range []struct {
		kind  corev1.NodeConditionType
		short bool
	}{{corev1.NodeMemoryPressure, c.MemoryPressure}, {corev1.NodeDiskPressure, c.DiskPressure}, {corev1.NodePIDPressure, c.PIDs}} {
		if p.short {
			list = append(list, p.kind)
		}
	}
	return list
}

// Observe takes in the node's object as the API has it.
func (m *Manager) Observe(n *corev1.Node) {
	m.learn(n)
	m.Nudge()
}

// AwaitInUse returns once the node's status in the API says that a volume is in use.
func (m *Manager) AwaitInUse(ctx context.Context, v corev1.UniqueVolumeName) error {
	for {
		m.mu.Lock()
		told, learned := m.node != nil && slices.Contains(m.node.Status.VolumesInUse, v), m.learned
		m.mu.Unlock()
		if told {
			return nil
		}
		m.Nudge()
		select {
		case <-learned:
		case <-ctx.Done():
			return fmt.Errorf("the node's status does not say yet that volume %s is in use: %w", v, ctx.Err())
		}
	}
}

// Nudge asks for the status to be looked at again, since something may have changed.
func (m *Manager) Nudge() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// Run registers the node and keeps its objects until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	return client.RunAll(ctx, m.runStatus, m.runLease)
}

// runStatus writes the status when it has changed.
func (m *Manager) runStatus(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	wait := client.Backoff{Most: retryEvery}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-m.kick:
		}
		next := reportEvery
		if err := m.sync(ctx); err != nil && ctx.Err() == nil {
			m.log.Warn("node was not reported", "node", m.c.Name, "error", err)
			next = wait.Next()
		} else {
			wait.Reset()
		}
		timer.Reset(next)
	}
}

// sync registers the node if it is not, and writes its status if it has changed or is old.
func (m *Manager) sync(ctx context.Context) error {
	nodes := client.Of(m.client, client.Nodes())
	have := m.known()
	if have == nil {
		var err error
		have, err = nodes.Get(ctx, "", m.c.Name)
		if apierrors.IsNotFound(err) {
			have, err = m.create(ctx)
		}
		if err != nil {
			return err
		}
		m.learn(have)
	}
	have, err := m.syncMeta(ctx, have)
	if err != nil {
		return err
	}
	if m.c.Settled != nil && !m.c.Settled() && len(have.Status.Conditions) > 0 {
		return nil // we will be nudged
	}
	want := have.DeepCopy()
	m.fill(want, time.Now())
	if sameStatus(&have.Status, &want.Status) && !m.stale(have) {
		return nil
	}
	was := have.Status.DeepCopy()
	wrote, err := nodes.UpdateStatus(ctx, want)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		m.learn(nil)
		m.Nudge()
		return nil
	}
	if err == nil {
		m.learn(wrote)
		m.tell(was, &wrote.Status)
	}
	return err
}

// tell records what a change of the status means, in the words of Kubernetes' kubelet.
func (m *Manager) tell(before, after *corev1.NodeStatus) {
	if m.c.Event == nil {
		return
	}
	if old := before.NodeInfo.BootID; old != "" && old != after.NodeInfo.BootID {
		m.c.Event(corev1.EventTypeWarning, "Rebooted", "Node %s has been rebooted, boot id: %s", m.c.Name, after.NodeInfo.BootID)
	}
	for _, c := range after.Conditions {
		if reason := transition(c.Type, c.Status); reason != "" && status(before, c.Type) != c.Status {
			m.c.Event(corev1.EventTypeNormal, reason, "Node %s status is now: %s", m.c.Name, reason)
		}
	}
}

// transition is the reason of the event that a condition has come to a status.
func transition(t corev1.NodeConditionType, s corev1.ConditionStatus) string {
	for _, r := range []struct {
		of      corev1.NodeConditionType
		yes, no string
	}{
		{corev1.NodeReady, "NodeReady", "NodeNotReady"},
		{corev1.NodeMemoryPressure, "NodeHasInsufficientMemory", "NodeHasSufficientMemory"},
		{corev1.NodeDiskPressure, "NodeHasDiskPressure", "NodeHasNoDiskPressure"},
		{corev1.NodePIDPressure, "NodeHasInsufficientPID", "NodeHasSufficientPID"},
	} {
		if r.of == t && s == corev1.ConditionTrue {
			return r.yes
		}
		if r.of == t {
			return r.no
		}
	}
	return ""
}

func status(s *corev1.NodeStatus, t corev1.NodeConditionType) corev1.ConditionStatus {
	for _, c := range s.Conditions {
		if c.Type == t {
			return c.Status
		}
	}
	return ""
}

// syncMeta makes the labels that describe the machine what they should be.
func (m *Manager) syncMeta(ctx context.Context, have *corev1.Node) (*corev1.Node, error) {
	want := have.DeepCopy()
	if want.Labels == nil {
		want.Labels = map[string]string{}
	}
	maps.Copy(want.Labels, m.labels())
	if equality.Semantic.DeepEqual(have.Labels, want.Labels) {
		return have, nil
	}
	wrote, err := client.Of(m.client, client.Nodes()).Update(ctx, want)
	if apierrors.IsConflict(err) {
		m.learn(nil)
	}
	if err != nil {
		return nil, err
	}
	m.learn(wrote)
	return wrote, nil
}

func (m *Manager) known() *corev1.Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.node
}

func (m *Manager) learn(n *corev1.Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.node = n
	close(m.learned)
	m.learned = make(chan struct{})
}

func (m *Manager) labels() map[string]string {
	labels := map[string]string{
		corev1.LabelHostname:   m.c.Name,
		corev1.LabelOSStable:   m.c.Facts.Info.OperatingSystem,
		corev1.LabelArchStable: m.c.Facts.Info.Architecture,
	}
	maps.Copy(labels, m.c.Labels)
	return labels
}

func (m *Manager) create(ctx context.Context) (*corev1.Node, error) {
	n := &corev1.Node{}
	n.Name, n.Labels = m.c.Name, m.labels()
	n.Spec.Taints, n.Spec.ProviderID = m.c.Taints, m.c.ProviderID
	m.fill(n, time.Now())
	created, err := client.Of(m.client, client.Nodes()).Create(ctx, n)
	if apierrors.IsAlreadyExists(err) {
		return client.Of(m.client, client.Nodes()).Get(ctx, "", m.c.Name)
	}
	if err == nil {
		m.log.Info("node registered", "node", m.c.Name)
	}
	return created, err
}

// stale says whether the status was written so long ago that its heartbeats need renewing.
func (m *Manager) stale(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return time.Since(c.LastHeartbeatTime.Time) >= reportEvery
		}
	}
	return true
}

// sameStatus compares statuses but for heartbeat times.
func sameStatus(a, b *corev1.NodeStatus) bool {
	x, y := a.DeepCopy(), b.DeepCopy()
	for _, s := range []*corev1.NodeStatus{x, y} {
		for i := range s.Conditions {
			s.Conditions[i].LastHeartbeatTime = metav1.Time{}
		}
	}
	return equality.Semantic.DeepEqual(x, y)
}
