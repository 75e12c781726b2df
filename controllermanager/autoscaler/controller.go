package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/adapters"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

const (
	// workers is how many autoscalers are worked on at a time, as upstream.
	workers = 5
	// asking is how many pods' kubelets are asked at a time for one autoscaler: at 10 ms each, 1,000 pods take a second of the
	// fifteen that there are.
	asking = 10
	// askTimeout is how long a kubelet may take to answer; a pod of one that does not counts as one without metrics.
	askTimeout = 5 * time.Second
	// newest is the shortest time between two samples of a container that a rate is computed from; shorter ones say little.
	newest = 5 * time.Second
	// forgetAfter is when a container's last sample is forgotten, and the longest time that a rate is computed over: four periods.
	forgetAfter = 4 * Period
)

// Controller returns the controller's declaration. paths reads the APIs of adapters; nil has none.
func Controller(paths adapters.Paths) engine.Controller {
	return engine.Controller{
		Name:   "horizontal-pod-autoscaler-controller",
		Reads:  []plan.Kind{plan.HPAs, plan.Pods},
		Writes: []engine.Claim{{Kind: plan.HPAs, Field: "status"}},
		// The scale of whatever there is.
		AnyKind: true,
		Setup:   func(s *engine.Setup) error { return setup(s, adapters.Source{Paths: paths}) },
	}
}

type controller struct {
	setup   *engine.Setup
	pods    *engine.View[*corev1.Pod]
	samples samples
	source  adapters.Source

	mu    sync.Mutex
	known map[types.UID]*known
}

// known is what is remembered of one autoscaler.
type known struct {
	memory Memory
	asked  *Rescale
}

func setup(s *engine.Setup, source adapters.Source) error {
	c := &controller{setup: s, source: source, pods: engine.Mirror(s, client.Pods()), known: map[types.UID]*known{}, samples: newSamples()}
	all := engine.Mirror(s, client.HorizontalPodAutoscalers())
	all.Loop(s, engine.LoopConfig{Name: "horizontalpodautoscaler", Workers: workers}, c.step)
	all.OnChange(func(old, new *autoscalingv2.HorizontalPodAutoscaler) {
		if new == nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			delete(c.known, old.UID)
		}
	})
	return nil
}

func (c *controller) remembered(uid types.UID) known {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.known[uid]; k != nil {
		return *k
	}
	return known{}
}

func (c *controller) remember(uid types.UID, k known) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[uid] = &k
}

func (c *controller) step(ctx context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler, s engine.Step) (plan.Plan, error) {
	if hpa.DeletionTimestamp != nil {
		return plan.Plan{}, nil
	}
	k := c.remembered(hpa.UID)
	in := Input{HPA: hpa, Memory: k.memory}
	if k.asked != nil {
		in.Last = k.asked
		in.Last.Err = scaleFailure(s.Last)
	} else {
		c.observe(ctx, hpa, &in)
	}
	out := Reconcile(in, s.Now)
	c.remember(hpa.UID, known{out.Memory, out.Rescale})
	return out.Plan, nil
}

// scaleFailure is why the last step's change of size was not made; nil if it was.
func scaleFailure(err error) error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		for _, e := range joined.Unwrap() {
			if f := scaleFailure(e); f != nil {
				return f
			}
		}
		return nil
	}
	var we *engine.WriteError
	if errors.As(err, &we) && we.Write.Subresource == "scale" {
		return we.Err
	}
	return nil
}

// observe reads the target's scale, its pods and what they use.
func (c *controller) observe(ctx context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler, in *Input) {
	ref := hpa.Spec.ScaleTargetRef
	if in.Target, in.ScaleErr = c.target(ctx, ref); in.ScaleErr != nil {
		return
	}
	scale := &autoscalingv1.Scale{}
	if in.ScaleErr = engine.GetSubresource(ctx, c.setup.Client(), in.Target, hpa.Namespace, ref.Name, "scale", scale); in.ScaleErr != nil {
		return
	}
	in.Scale = scale
	if scale.Status.Selector == "" {
		in.SelectorErr = errors.New("the HPA target's scale is missing a selector")
		return
	}
	selector, err := labels.Parse(scale.Status.Selector)
	if err != nil {
		in.SelectorErr = fmt.Errorf("couldn't convert selector into a corresponding internal selector object: %w", err)
		return
	}
	for _, pod := range c.pods.ByIndex("namespace", hpa.Namespace) {
		if selector.Matches(labels.Set(pod.Labels)) {
			in.Pods = append(in.Pods, pod)
		}
	}
	if measured(hpa) {
		in.Usage = c.usage(ctx, in.Pods)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	in.Series = c.series(ctx, hpa, scale.Status.Selector)
}

// series asks adapters for the metrics that they have.
func (c *controller) series(ctx context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler, selector string) []Series {
	out := make([]Series, len(hpa.Spec.Metrics))
	for i, m := range hpa.Spec.Metrics {
		switch {
		case m.Pods != nil:
			out[i].Pods, out[i].Err = c.source.Pods(ctx, hpa.Namespace, selector, m.Pods.Metric)
		case m.Object != nil:
			out[i].Total, out[i].Err = c.object(ctx, hpa.Namespace, m.Object)
		case m.External != nil:
			out[i].Total, out[i].Err = c.source.External(ctx, hpa.Namespace, m.External.Metric)
		}
	}
	return out
}

func (c *controller) object(ctx context.Context, namespace string, m *autoscalingv2.ObjectMetricSource) (int64, error) {
	k, err := c.target(ctx, m.DescribedObject)
	if err != nil {
		return 0, err
	}
	if !k.Namespaced {
		namespace = ""
	}
	resource := schema.GroupResource{Group: k.Group, Resource: k.Resource}.String()
	return c.source.Object(ctx, namespace, resource, m.DescribedObject.Name, m.Metric)
}

// measured reports whether any metric is one that kubelets are asked for.
func measured(hpa *autoscalingv2.HorizontalPodAutoscaler) bool {
	return slices.ContainsFunc(hpa.Spec.Metrics, func(m autoscalingv2.MetricSpec) bool { return m.Resource != nil || m.ContainerResource != nil })
}

// target finds the kind that an autoscaler names, in the version it names if that is served.
func (c *controller) target(ctx context.Context, ref autoscalingv2.CrossVersionObjectReference) (plan.Kind, error) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return plan.Kind{}, fmt.Errorf("invalid API version in scale target reference: %w", err)
	}
	resources, err := c.setup.Discover(ctx)
	if err != nil {
		return plan.Kind{}, err
	}
	var found plan.Kind
	for _, r := range resources {
		if r.Group == gv.Group && r.Kind.Kind == ref.Kind && (r.Version == gv.Version || found == (plan.Kind{}) && r.Preferred) {
			found = r.Kind
		}
	}
	if found == (plan.Kind{}) {
		return found, fmt.Errorf("unable to determine resource for scale target reference: no matches for kind %q in group %q", ref.Kind, gv.Group)
	}
	return found, nil
}

// usage asks the kubelets what the pods use.
func (c *controller) usage(ctx context.Context, list []*corev1.Pod) map[string]Usage {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var mu sync.Mutex
	out := map[string]Usage{}
	var wg sync.WaitGroup
	slots := make(chan struct{}, asking)
	nodes := nodev1.NewNodeServiceClient(c.setup.Client().Conn())
	for _, pod := range list {
		if pod.Spec.NodeName == "" || pod.Status.Phase != corev1.PodRunning {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			stats, err := nodes.Stats(ctx, &nodev1.StatsRequest{Namespace: pod.Namespace, Pod: pod.Name})
			if err != nil {
				c.setup.Log.Debug("no metrics of pod", "pod", client.KeyOf(pod).String(), "error", err)
				return
			}
			for _, p := range stats.GetPods() {
				if u, ok := c.samples.take(p, time.Now()); ok && p.GetUid() == string(pod.UID) {
					mu.Lock()
					out[pod.Name] = u
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	c.samples.forget(time.Now())
	return out
}

// samples are the containers' last two readings of CPU time, from whose difference the use is computed.
type samples struct {
	mu   *sync.Mutex
	last map[containerID]*pair
}

type containerID struct{ pod, container string }

// pair is two readings at different times; before is zero after the first.
type pair struct{ before, last sample }

// sample is a reading of a counter of CPU nanoseconds.
type sample struct {
	at   time.Time
	used uint64
}

func newSamples() samples { return samples{&sync.Mutex{}, map[containerID]*pair{}} }

// take notes a pod's reading and returns what its containers use; false as long as one of them has been read only once.
func (s samples) take(p *nodev1.PodStats, now time.Time) (Usage, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := Usage{Containers: map[string]corev1.ResourceList{}}
	for _, c := range p.GetContainers() {
		at := now
		if c.GetTime() != nil {
			at = c.GetTime().AsTime()
		}
		id := containerID{p.GetUid(), c.GetName()}
		have := s.last[id]
		current := sample{at, c.GetCpuUsageCoreNanoseconds()}
		switch {
		case have == nil || current.used < have.last.used || at.Sub(have.last.at) > forgetAfter: // first seen, restarted, or long ago
			have = &pair{last: current}
		case at.Sub(have.last.at) >= newest:
			have = &pair{have.last, current}
		}
		s.last[id] = have
		if have.before.at.IsZero() {
			continue
		}
		window := have.last.at.Sub(have.before.at)
		milli := int64(float64(have.last.used-have.before.used) / float64(window.Nanoseconds()) * 1000)
		u.Containers[c.GetName()] = corev1.ResourceList{
			corev1.ResourceCPU:    *resource.NewMilliQuantity(milli, resource.DecimalSI),
			corev1.ResourceMemory: *resource.NewQuantity(int64(c.GetMemoryWorkingSetBytes()), resource.BinarySI),
		}
		u.At, u.Window = have.last.at, window
	}
	return u, len(u.Containers) > 0 && len(u.Containers) == len(p.GetContainers())
}

// forget drops containers that have not been read for long.
func (s samples) forget(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, p := range s.last {
		if now.Sub(p.last.at) > 2*forgetAfter {
			delete(s.last, id)
		}
	}
}
