// Package loop runs the scheduler: it mirrors nodes and pods, asks plan where waiting pods go, and binds them.
//
// One goroutine owns the plan's state and the queue; mirrors and requests to the API talk to it over channels. Binding is
// optimistic: a decided pod counts as placed at once, its binding goes out in a batch while the next pods are decided on, and
// if it fails the pod is taken out again and retried. The API server refuses to bind a pod twice, so that a restart, or a
// second scheduler, can lose or double nothing; what this process knows beyond the API is only what has not been bound yet.
//
// A pod whose claims wait for their first consumer is bound in two steps: its node is written into the claims, or the claims into
// volumes that there are, and when the volume binder has bound them all, the pod follows. So it is with resource claims: the devices that were decided on are written
// into their status, with a reservation for the pod, before the pod is bound. Meanwhile it counts as placed, too.
package loop

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/client"
	"bareboat.dev/client/events"
	"bareboat.dev/scheduler/plan"
	"bareboat.dev/scheduler/queue"
	"bareboat.dev/scheduler/selector"
)

const (
	// DefaultName is the scheduler that pods name unless they name another.
	DefaultName = "default-scheduler"
	// decideBatch is how many pods are decided on before news is looked at: at 20,000 decisions/s a batch takes 25 ms.
	decideBatch = 500
	// maxBinding is how many batches may be under way to the API: at 10 ms each they carry 200,000 pods/s, far more than it takes.
	maxBinding = 4
	// inboxSize lets mirrors run ahead of a decision under way: a batch of decisions makes as many changes.
	inboxSize = 2 * decideBatch
)

// Config is what a scheduler needs.
type Config struct {
	Client *client.Client
	// Name is the spec.schedulerName that it serves; empty means default-scheduler.
	Name    string
	Events  *events.Recorder
	Metrics *Metrics
	Log     *slog.Logger
}

// Scheduler assigns pods to nodes.
type Scheduler struct {
	cfg     Config
	pods    *client.Mirror[*corev1.Pod]
	nodes   *client.Mirror[*corev1.Node]
	spaces  *client.Mirror[*corev1.Namespace]
	claims  *client.Mirror[*corev1.PersistentVolumeClaim]
	volumes *client.Mirror[*corev1.PersistentVolume]
	classes *client.Mirror[*storagev1.StorageClass]
	attach  *client.Mirror[*storagev1.CSINode]

	resourceClaims *client.Mirror[*resourcev1.ResourceClaim]
	slices         *client.Mirror[*resourcev1.ResourceSlice]
	deviceClasses  *client.Mirror[*resourcev1.DeviceClass]
	taintRules     *client.Mirror[*resourcev1.DeviceTaintRule]

	disruption *client.Mirror[*policyv1.PodDisruptionBudget]

	inbox   chan func()
	leading atomic.Bool

	// What follows is owned by the deciding goroutine.
	cluster *plan.Cluster
	queue   *queue.Queue
	gated   map[types.UID]bool
	// binding holds decided pods whose binding is under way, batches how many requests carry them.
	binding map[types.UID]*queue.Item
	batches int
	// preparing are decided pods that wait for their volumes and claims, requests how many requests for them are under way. volumeNews
	// tells that some may be ready.
	preparing  map[types.UID]*preparing
	requests   int
	volumeNews bool
	budgets    map[client.Key]plan.Budget
	// releasing are the resource claims whose devices are being taken back.
	releasing map[types.UID]bool
	// nominated are waiting pods that room is being made for, evictions how many requests make it.
	nominated map[types.UID]nomination
	evictions int
	reports   reports
	unsynced  int
	// touched nodes and kinds of news since parked pods were last looked at.
	news news
}

// New returns a scheduler that does not lead yet.
func New(cfg Config) *Scheduler {
	if cfg.Name == "" {
		cfg.Name = DefaultName
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics()
	}
	if cfg.Events == nil {
		cfg.Events = events.NewRecorder(cfg.Client, cfg.Name, "")
	}
	s := &Scheduler{
		cfg: cfg, inbox: make(chan func(), inboxSize), cluster: plan.NewWithDevices(selector.New()), queue: queue.New(), gated: map[types.UID]bool{},
		binding: map[types.UID]*queue.Item{}, nominated: map[types.UID]nomination{}, reports: newReports(), news: newNews(),
		preparing: map[types.UID]*preparing{}, budgets: map[client.Key]plan.Budget{}, releasing: map[types.UID]bool{},
	}
	s.newMirrors()
	return s
}

// Lead is what leader election calls: the scheduler decides until ctx ends. Outside of it the state is kept up to date, so that
// taking over takes no time.
func (s *Scheduler) Lead(ctx context.Context) {
	s.leading.Store(true)
	s.send(ctx, func() {})
	<-ctx.Done()
	s.leading.Store(false)
}

// Synced tells whether nodes and pods are known, and the volumes and devices that they depend on.
func (s *Scheduler) Synced() bool {
	return s.pods.Synced() && s.nodes.Synced() && s.claims.Synced() && s.volumes.Synced() && s.classes.Synced() &&
		s.resourceClaims.Synced() && s.slices.Synced() && s.deviceClasses.Synced() && s.taintRules.Synced()
}

// ErrStuck means that the deciding goroutine does not answer.
var ErrStuck = errors.New("the deciding goroutine does not answer")

// Alive waits for the deciding goroutine to answer, until ctx ends; it is a liveness check.
func (s *Scheduler) Alive(ctx context.Context) error {
	answered := make(chan struct{})
	s.send(ctx, func() { close(answered) })
	select {
	case <-answered:
		return nil
	case <-ctx.Done():
		return ErrStuck
	}
}

// Run mirrors, and decides while leading, until ctx ends. It may be called once.
func (s *Scheduler) Run(ctx context.Context) error {
	s.listen(ctx)
	// The recorder ends last, so that it writes what the last bindings say.
	recording, stop := context.WithCancel(context.WithoutCancel(ctx))
	return client.RunAll(ctx, s.pods.Run, s.nodes.Run, s.spaces.Run, s.claims.Run, s.volumes.Run, s.classes.Run, s.attach.Run, s.disruption.Run,
		s.resourceClaims.Run, s.slices.Run, s.deviceClasses.Run, s.taintRules.Run,
		func(context.Context) error { return s.cfg.Events.Run(recording) },
		func(ctx context.Context) error {
			defer stop()
			return s.run(ctx)
		})
}

// send hands work to the deciding goroutine.
func (s *Scheduler) send(ctx context.Context, f func()) {
	select {
	case s.inbox <- f:
	case <-ctx.Done():
	}
}

// run is the deciding goroutine.
func (s *Scheduler) run(ctx context.Context) error {
	defer func() { // requests under way report to nobody any more, but must end before Run does
		for s.batches > 0 || s.requests > 0 || s.evictions > 0 || s.reports.underWay {
			(<-s.inbox)()
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		s.readInbox()
		s.wake(time.Now())
		s.bindPrepared(ctx, time.Now())
		s.sendReports(ctx)
		s.cfg.Metrics.observeQueue(s.queue, len(s.gated), s.cluster)
		if s.mayDecide() {
			if batch := s.queue.Pop(time.Now(), decideBatch); len(batch) > 0 {
				s.decide(ctx, batch)
				continue
			}
		}
		timer.Reset(s.untilDue(time.Now()))
		select {
		case f := <-s.inbox:
			f()
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return nil
}

func (s *Scheduler) mayDecide() bool {
	return s.leading.Load() && s.unsynced == 0 && s.batches < maxBinding
}

// readInbox handles all news there is, so that decisions see it.
func (s *Scheduler) readInbox() {
	for range cap(s.inbox) {
		select {
		case f := <-s.inbox:
			f()
		default:
			return
		}
	}
}

// idle is how long the deciding goroutine sleeps if no pod becomes due before.
const idle = time.Minute

func (s *Scheduler) untilDue(now time.Time) time.Duration {
	wait := time.Duration(idle)
	if due, ok := s.queue.NextDue(); ok && s.mayDecide() {
		wait = min(wait, due.Sub(now))
	}
	if deadline, ok := s.nextDeadline(); ok {
		wait = min(wait, deadline.Sub(now))
	}
	return max(wait, 0)
}
