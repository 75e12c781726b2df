package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/kubelet/objects"
	"bareboat.dev/kubelet/pod"
	"bareboat.dev/kubelet/shim"
)

// worker runs one pod. Its lock guards everything below mu; it is never held during I/O but for small local files.
type worker struct {
	a   *Agent
	uid types.UID
	// key is the pod's namespace and name; static says that it comes from a manifest.
	key    string
	static bool
	ctx    context.Context
	cancel context.CancelFunc
	kick   chan struct{}
	// stale asks for the volumes to be brought up to date.
	stale chan struct{}

	mu sync.Mutex
	// pod is the pod as its source has it; gone says that the source no longer does.
	pod  *corev1.Pod
	gone bool
	// allocated is what the node has granted the pod; saved on disk once it differs from what the pod was made with.
	allocated pod.Allocation
	// grantedFor is the pod's generation whose resources are those that it has been granted; 0 if that is not known.
	grantedFor int64
	// after are pods that end to make room for this one: it begins when they have.
	after []*worker
	// over is closed when nothing of the pod runs any more.
	over chan struct{}
	// mirror is what shows a static pod in the API; nil if nothing does.
	mirror *corev1.Pod
	stop   *pod.Stop
	// status is what was last decided; nil before the first step.
	status  *corev1.PodStatus
	seen    pod.Observed
	memory  pod.Memory
	flights map[pod.Key]context.CancelFunc
	sandbox Sandbox
	records map[string]*record
	exits   map[string]shim.ContainerStatus
	probes  map[probeKey]context.CancelFunc
	// waiters are told when an instance, by id, has ended.
	waiters map[string]chan struct{}
	refs    []objects.Ref
	// buried says that nothing of the pod is left and its worker ends.
	buried bool
	// saved marks the state in which the pod was last written to disk.
	saved string
}

func newWorker(a *Agent, p *corev1.Pod) *worker {
	ctx, cancel := context.WithCancel(a.ctx)
	return &worker{
		a: a, uid: p.UID, key: podKey(p), ctx: ctx, cancel: cancel, kick: make(chan struct{}, 1), stale: make(chan struct{}, 1), pod: p,
		allocated: pod.Wanted(&p.Spec), over: make(chan struct{}), grantedFor: p.Generation,
		seen: pod.Observed{
			Images: map[string]pod.Image{}, Refused: map[string]pod.Failure{}, InFlight: map[pod.Key]bool{},
		},
		flights: map[pod.Key]context.CancelFunc{}, records: map[string]*record{}, exits: map[string]shim.ContainerStatus{},
		probes: map[probeKey]context.CancelFunc{}, waiters: map[string]chan struct{}{},
	}
}

// run steps the pod until its worker ends.
func (w *worker) run() {
	w.a.wg.Go(w.refreshVolumes)
	w.hold()
	if !w.awaitRoom() {
		return
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wake := w.step()
		timer.Stop()
		if !wake.IsZero() {
			timer.Reset(max(time.Until(wake), 0))
		}
		select {
		case <-w.ctx.Done():
			return
		case <-w.kick:
		case <-timer.C:
		}
	}
}

// nudge asks for a step.
func (w *worker) nudge() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// hold makes the objects that the pod refers to available.
func (w *worker) hold() {
	w.mu.Lock()
	refs := objects.Refs(w.pod)
	if terminal(w.pod) {
		refs = nil
	}
	w.refs = refs
	w.mu.Unlock()
	w.a.objects.Hold(w.uid, refs)
}

func (w *worker) refersTo(r objects.Ref) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.refs, r)
}

// setPod takes a new state of the pod in.
func (w *worker) setPod(p *corev1.Pod) {
	w.mu.Lock()
	changed := !equality.Semantic.DeepEqual(w.pod.Annotations, p.Annotations) || !equality.Semantic.DeepEqual(w.pod.Labels, p.Labels)
	respecified := w.pod.Generation != p.Generation
	w.pod = p
	mounted := w.seen.Volumes.Mounted
	w.mu.Unlock()
	w.a.writer.observed(w, p)
	if respecified {
		w.hold() // an ephemeral container may refer to what no other does
	}
	if changed && mounted {
		w.refresh()
	}
	w.nudge()
}

func (w *worker) setGone() {
	w.mu.Lock()
	w.gone = true
	w.mu.Unlock()
	w.nudge()
}

// objectChanged ends the wait of what failed for lack of an object, and brings volumes up to date.
func (w *worker) objectChanged() {
	w.mu.Lock()
	clear(w.seen.Refused)
	w.seen.Volumes.Failure = nil
	mounted := w.seen.Volumes.Mounted
	w.mu.Unlock()
	if mounted {
		w.refresh()
	}
	w.nudge()
}

// step runs one step of the machine and starts what it asks for. It returns when to step again at the latest.
func (w *worker) step() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.buried {
		return time.Time{}
	}
	current := w.currentLocked()
	plan := pod.Step(pod.Input{
		Pod: current, Gone: w.gone, Stop: w.stop, Observed: w.seen, Allocated: &w.allocated, Memory: w.memory,
		HostIPs: w.a.Node.Addresses(), Now: time.Now(),
	})
	w.memory = plan.Memory
	w.a.announce(current, plan.Events, w.status, &plan.Status)
	w.a.metrics.transition(current, w.status, &plan.Status)
	w.status = &plan.Status
	if plan.Terminating {
		w.cancelStartsLocked()
	}
	for _, act := range plan.Actions {
		w.beginLocked(act)
	}
	w.syncProbesLocked(plan.Probes)
	w.tellExitsLocked()
	w.saveLocked()
	if plan.Finished {
		w.overLocked()
	}
	switch {
	case plan.Finished && w.gone:
		w.buried = true
		w.a.wg.Go(func() { w.bury() })
	case w.static:
		if w.mirror != nil && !w.gone {
			w.a.writer.want(w, w.mirror, plan.Status, false)
		}
	case !w.gone:
		w.a.writer.want(w, w.pod, plan.Status, plan.Finished && w.pod.DeletionTimestamp != nil)
	}
	return plan.Wake
}

// currentLocked is the pod as the machine is to see it: its source's specification, our own last status, and the
// conditions and the claims that others own.
func (w *worker) currentLocked() *corev1.Pod {
	if w.status == nil || terminal(w.pod) {
		return w.pod
	}
	p := *w.pod
	p.Status = *w.status.DeepCopy()
	source := w.pod
	if w.mirror != nil {
		source = w.mirror
	}
	p.Status.Conditions = mergeConditions(p.Status.Conditions, source.Status.Conditions)
	p.Status.ResourceClaimStatuses, p.Status.ExtendedResourceClaimStatus = source.Status.ResourceClaimStatuses, source.Status.ExtendedResourceClaimStatus
	return &p
}

// mergeConditions takes our own conditions from ours and all others from theirs.
func mergeConditions(ours, theirs []corev1.PodCondition) []corev1.PodCondition {
	var merged []corev1.PodCondition
	for _, c := range ours {
		if ownCondition(c.Type) {
			merged = append(merged, c)
		}
	}
	for _, c := range theirs {
		if !ownCondition(c.Type) {
			merged = append(merged, c)
		}
	}
	for _, c := range ours {
		if !ownCondition(c.Type) && !slices.ContainsFunc(merged, func(m corev1.PodCondition) bool { return m.Type == c.Type }) {
			merged = append(merged, c)
		}
	}
	return merged
}

func ownCondition(t corev1.PodConditionType) bool {
	switch t {
	case corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled,
		corev1.PodResizePending, corev1.PodResizeInProgress, corev1.AllContainersRestarting:
		return true
	}
	return false
}

func terminal(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// bury removes what the pod leaves behind, its logs too, and ends the worker.
func (w *worker) bury() {
	w.mu.Lock()
	p := w.pod
	w.mu.Unlock()
	if err := w.a.removeTraces(p); err != nil {
		w.a.Log.Error("pod directory was not removed", "pod", podKey(p), "uid", w.uid, "error", err)
	}
	w.a.Log.Info("pod removed", "pod", podKey(p), "uid", w.uid)
	w.a.forget(w)
}

func podKey(p *corev1.Pod) string { return p.Namespace + "/" + p.Name }

// editLocked changes an instance in what is observed. Steps keep no reference to it.
func (w *worker) editLocked(id string, change func(*pod.Container)) bool {
	for i := range w.seen.Containers {
		if w.seen.Containers[i].ID == id {
			change(&w.seen.Containers[i])
			return true
		}
	}
	return false
}

// edit changes an instance and steps.
func (w *worker) edit(id string, change func(*pod.Container)) {
	w.mu.Lock()
	w.editLocked(id, change)
	w.mu.Unlock()
	w.nudge()
}
