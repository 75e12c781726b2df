package loop

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/client"
	"bareboat.dev/scheduler/plan"
	"bareboat.dev/scheduler/queue"
)

// news is what has happened that parked pods may have waited for.
type news struct {
	// nodes that were added or changed, or where something became free.
	nodes map[string]bool
	// placedPods tells that pods came, went or changed, which spread and affinity depend on.
	placedPods bool
	// volumes tells that claims, volumes, classes or drivers' limits changed.
	volumes bool
	// claims are the resource claims that changed; devices tells that slices or classes did, or that devices became free.
	claims  map[client.Key]bool
	devices bool
}

func newNews() news { return news{nodes: map[string]bool{}, claims: map[client.Key]bool{}} }

// wake moves the parked pods that the news concerns: those that a changed node would take by itself, and those that other pods
// stand against.
func (s *Scheduler) wake(now time.Time) {
	if len(s.news.nodes) == 0 && !s.news.placedPods && !s.news.volumes && len(s.news.claims) == 0 && !s.news.devices {
		return
	}
	if s.queue.Waiting() {
		fits := s.cluster.FitsAny(s.news.nodes)
		n := s.queue.Wake(now, func(it *queue.Item) bool {
			if s.news.placedPods && it.Plugins&(plan.PodTopologySpread|plan.InterPodAffinity|plan.VolumeRestrictions|plan.NodeVolumeLimits) != 0 {
				return true
			}
			if s.news.volumes && it.Plugins&(plan.VolumeBinding|plan.VolumeZone|plan.VolumeRestrictions|plan.NodeVolumeLimits) != 0 {
				return true
			}
			if it.Plugins&plan.DynamicResources != 0 && s.claimNews(it) {
				return true
			}
			nom, nominated := s.nominated[it.Pod.UID]
			return nominated && s.news.nodes[nom.node] || fits(it.Pod)
		})
		s.cfg.Metrics.woken(n)
	}
	s.news = newNews()
}

// decide plans a batch, sends the bindings off, and parks what found no node.
func (s *Scheduler) decide(ctx context.Context, batch []*queue.Item) {
	var bound []binding
	for _, it := range batch {
		start := time.Now()
		d := s.cluster.Schedule(it.Pod)
		took := time.Since(start)
		switch {
		case d.Err != nil:
			s.cfg.Metrics.attempt("error", s.cfg.Name, took)
			s.cfg.Log.Error("pod not understood", "pod", client.KeyOf(it.Pod).String(), "error", d.Err)
			s.cfg.Events.Event(it.Pod, corev1.EventTypeWarning, "FailedScheduling", "%v", d.Err)
			s.queue.Retry(it, time.Now())
		case d.Node == "":
			s.cfg.Metrics.attempt("unschedulable", s.cfg.Name, took)
			s.refuse(ctx, it, d.Why)
		default:
			s.cfg.Metrics.attempt("scheduled", s.cfg.Name, took)
			delete(s.nominated, it.Pod.UID)
			s.binding[it.Pod.UID] = it
			if len(d.Claims) > 0 || s.waitsForVolumes(it.Pod, d) {
				s.prepare(ctx, it, d)
				continue
			}
			bound = append(bound, binding{it, it.Pod, d.Node})
		}
	}
	if len(bound) > 0 {
		s.batches++
		go s.bind(ctx, bound)
	}
}

// refuse parks a pod and says why, after it has tried to make room for it.
func (s *Scheduler) refuse(ctx context.Context, it *queue.Item, why *plan.Unschedulable) {
	nominated := s.preempt(ctx, it, why)
	if nominated == "" && why.Plugins&plan.DynamicResources != 0 {
		s.release(ctx, it.Pod)
	}
	message := why.String()
	s.queue.Park(it, why.Plugins, time.Now())
	s.reports.add(it.Pod, message, nominated)
	s.cfg.Events.Event(it.Pod, corev1.EventTypeWarning, "FailedScheduling", "%s", message)
}

// binding is a decided pod, as it was then.
type binding struct {
	item *queue.Item
	pod  *corev1.Pod
	node string
}

// bindTimeout bounds one batch of bindings; what is not answered by then is tried again.
const bindTimeout = 30 * time.Second

// bind sends one batch and reports the results to the deciding goroutine, which waits for it even when ctx has ended.
func (s *Scheduler) bind(ctx context.Context, list []binding) {
	ctx, cancel := context.WithTimeout(ctx, bindTimeout)
	defer cancel()
	ops := make([]client.Op, len(list))
	for i, b := range list {
		ops[i] = client.BindOp(b.pod, b.node)
	}
	results, _ := s.cfg.Client.BatchOmit(ctx, ops...) // each result has its error
	s.inbox <- func() {
		s.batches--
		for i, b := range list {
			s.bindingEnded(b, results[i].Err)
		}
	}
}

// bindingEnded takes over what became of one binding.
func (s *Scheduler) bindingEnded(b binding, err error) {
	pod := b.pod
	delete(s.binding, pod.UID)
	if err == nil {
		s.cfg.Metrics.scheduled(b.item, time.Now())
		s.reports.drop(pod.UID)
		s.cfg.Events.Event(pod, corev1.EventTypeNormal, "Scheduled", "Successfully assigned %s/%s to %s", pod.Namespace, pod.Name, b.node)
		return
	}
	current, ok := s.pods.Get(pod.Namespace, pod.Name)
	if ok && current.UID == pod.UID && current.Spec.NodeName != "" {
		return // bound after all, by this request or another's; the mirror has told or will tell where
	}
	s.vacate(pod)
	if apierrors.IsNotFound(err) || !ok || current.UID != pod.UID || current.DeletionTimestamp != nil {
		return
	}
	s.cfg.Metrics.bindFailed(s.cfg.Name)
	s.cfg.Log.Warn("binding failed", "pod", client.KeyOf(pod).String(), "node", b.node, "error", err)
	b.item.Pod = current
	s.queue.Retry(b.item, time.Now())
}
