package autoscaler

import (
	"errors"
	"fmt"
	"testing"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"google.golang.org/protobuf/types/known/timestamppb"

	"bareboat.dev/controllermanager/plan"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// state of a test pod.
type state struct {
	cpu   int64 // millicores; negative: no metrics
	phase corev1.PodPhase
	ready corev1.ConditionStatus
	// readyAt and startedAt are how long ago.
	readyAt, startedAt time.Duration
	deleted            bool
}

// using are pods that have run for an hour and use so many millicores.
func using(cpu ...int64) (out []state) {
	for _, n := range cpu {
		out = append(out, state{cpu: n, phase: corev1.PodRunning, ready: corev1.ConditionTrue, readyAt: time.Hour, startedAt: time.Hour})
	}
	return out
}

func build(states []state) (list []*corev1.Pod, usage map[string]Usage) {
	usage = map[string]Usage{}
	for i, s := range states {
		started := metav1.NewTime(now.Add(-s.startedAt))
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprintf("p%d", i)},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")},
			}}}},
			Status: corev1.PodStatus{Phase: s.phase, StartTime: &started, Conditions: []corev1.PodCondition{
				{Type: corev1.PodReady, Status: s.ready, LastTransitionTime: metav1.NewTime(now.Add(-s.readyAt))},
			}},
		}
		if s.deleted {
			p.DeletionTimestamp = &started
		}
		list = append(list, p)
		if s.cpu >= 0 {
			usage[p.Name] = Usage{At: now, Window: 15 * time.Second, Containers: map[string]corev1.ResourceList{
				"c": {corev1.ResourceCPU: *resource.NewMilliQuantity(s.cpu, resource.DecimalSI)},
			}}
		}
	}
	return list, usage
}

// How many replicas a utilization wants: the cases of upstream's documentation of its algorithm.
func TestCompute(t *testing.T) {
	pending := state{cpu: -1, phase: corev1.PodPending, ready: corev1.ConditionFalse}
	silent := state{cpu: -1, phase: corev1.PodRunning, ready: corev1.ConditionTrue, readyAt: time.Hour, startedAt: time.Hour}
	starting := state{cpu: 1000, phase: corev1.PodRunning, ready: corev1.ConditionFalse, readyAt: time.Minute, startedAt: time.Minute}
	justReady := state{cpu: 1000, phase: corev1.PodRunning, ready: corev1.ConditionTrue, readyAt: 5 * time.Second, startedAt: time.Minute}
	for name, c := range map[string]struct {
		states  []state
		target  int64
		current int32
		want    int32
	}{
		"as wanted":                            {using(500, 500), 50, 2, 2},
		"within tolerance":                     {using(540, 540), 50, 2, 2},
		"beyond tolerance":                     {using(560, 560), 50, 2, 3},
		"doubles":                              {using(1000, 1000), 50, 2, 4},
		"halves":                               {using(100, 100, 100, 100), 20, 4, 2},
		"idle":                                 {using(0, 0, 0), 50, 3, 0},
		"uneven":                               {using(1000, 0), 50, 2, 2},
		"pending pods slow growth":             {append(using(1000, 1000), pending, pending), 50, 4, 4},
		"growth beats pending pods":            {append(using(3000, 3000), pending), 50, 3, 12},
		"missing metrics slow growth":          {append(using(1000, 1000), silent), 50, 3, 4},
		"missing metrics stop a decline":       {append(using(300, 300), silent), 50, 3, 3},
		"a decline that missing metrics allow": {append(using(0, 0, 0, 0, 0, 0, 0, 0, 0), silent), 50, 10, 2},
		"starting pods do not count":           {append(using(500, 500), starting), 50, 2, 2},
		"nor do those that were just ready":    {append(using(500, 500), justReady), 50, 2, 2},
		"deleted and failed pods do not exist": {append(using(1000), state{cpu: 0, phase: corev1.PodFailed}, state{cpu: 0, phase: corev1.PodRunning, deleted: true}), 50, 1, 2},
	} {
		list, usage := build(c.states)
		r, err := compute(c.current, list, usage, target{resource: corev1.ResourceCPU, utilization: c.target}, tolerance{0.1, 0.1}, now)
		if err != nil || r.replicas != c.want {
			t.Errorf("%s: %d, want %d (%v)", name, r.replicas, c.want, err)
		}
	}
}

// An average value is a target of its own, needs no requests, and counts one container if that is asked for.
func TestComputeAverage(t *testing.T) {
	list, usage := build(using(300, 500))
	for _, p := range list {
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{}
	}
	r, err := compute(2, list, usage, target{resource: corev1.ResourceCPU, average: 100}, tolerance{0.1, 0.1}, now)
	if err != nil || r.replicas != 8 || r.average != 400 {
		t.Errorf("%+v %v", r, err)
	}
	if r, err = compute(2, list, usage, target{resource: corev1.ResourceCPU, container: "c", average: 400}, tolerance{0.1, 0.1}, now); err != nil || r.replicas != 2 {
		t.Errorf("%+v %v", r, err)
	}
	if _, err = compute(2, list, usage, target{resource: corev1.ResourceCPU, container: "other", average: 400}, tolerance{0.1, 0.1}, now); !errors.Is(err, errNoMetrics) {
		t.Errorf("another container: %v", err)
	}
	if _, err = compute(2, list, usage, target{resource: corev1.ResourceCPU, utilization: 50}, tolerance{0.1, 0.1}, now); err == nil || err.Error() != "missing request for cpu in container c of Pod p0" {
		t.Errorf("without requests: %v", err)
	}
}

func scaler(change ...func(*autoscalingv2.HorizontalPodAutoscaler)) *autoscalingv2.HorizontalPodAutoscaler {
	least, percent := int32(2), int32(50)
	h := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "h", UID: "u", ResourceVersion: "1"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: "Deployment", Name: "web", APIVersion: "apps/v1"}, MinReplicas: &least, MaxReplicas: 10,
			Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
				Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent},
			}}},
		},
	}
	for _, f := range change {
		f(h)
	}
	return h
}

func input(h *autoscalingv2.HorizontalPodAutoscaler, replicas int32, cpu ...int64) Input {
	list, usage := build(using(cpu...))
	return Input{
		HPA: h, Pods: list, Usage: usage, Target: plan.Deployments,
		Scale: &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "w", ResourceVersion: "7"}, Spec: autoscalingv1.ScaleSpec{Replicas: replicas}, Status: autoscalingv1.ScaleStatus{Replicas: replicas}},
	}
}

// statusOf returns the status that a plan writes.
func statusOf(t *testing.T, p plan.Plan) map[autoscalingv2.HorizontalPodAutoscalerConditionType]autoscalingv2.HorizontalPodAutoscalerCondition {
	t.Helper()
	out := map[autoscalingv2.HorizontalPodAutoscalerConditionType]autoscalingv2.HorizontalPodAutoscalerCondition{}
	for _, w := range p.Writes {
		if h, ok := w.Object.(*autoscalingv2.HorizontalPodAutoscaler); ok {
			for _, c := range h.Status.Conditions {
				out[c.Type] = c
			}
		}
	}
	return out
}

// A change of size is written to the scale that it was decided from; what became of it is told afterwards, with an event.
func TestRescale(t *testing.T) {
	out := Reconcile(input(scaler(), 2, 1000, 1000), now)
	if err := out.Plan.Check(); err != nil || len(out.Plan.Writes) != 1 {
		t.Fatalf("%+v %v", out.Plan, err)
	}
	w := out.Plan.Writes[0]
	const patch = `{"metadata":{"resourceVersion":"7","uid":"w"},"spec":{"replicas":4}}`
	if w.Subresource != "scale" || w.Kind != plan.Deployments || string(w.Patch) != patch || out.Plan.After > time.Millisecond {
		t.Errorf("%s %s, again after %v", w.Subresource, w.Patch, out.Plan.After)
	}
	in := input(scaler(), 4)
	in.Last, in.Memory = out.Rescale, out.Memory
	told := Reconcile(in, now)
	if c := statusOf(t, told.Plan)[autoscalingv2.AbleToScale]; c.Reason != "SucceededRescale" || c.Message != "the HPA controller was able to update the target scale to 4" {
		t.Errorf("%+v", c)
	}
	if ev := told.Plan.Events; len(ev) != 1 || ev[0].Reason != "SuccessfulRescale" || ev[0].Message != "New size: 4; reason: cpu resource utilization (percentage of request) above target" {
		t.Errorf("%+v", ev)
	}
	in.Last.Err = errors.New("conflict")
	if c := statusOf(t, Reconcile(in, now).Plan)[autoscalingv2.AbleToScale]; c.Reason != "FailedUpdateScale" || c.Status != corev1.ConditionFalse {
		t.Errorf("%+v", c)
	}
}

// Conditions say in upstream's words why nothing is scaled.
func TestConditions(t *testing.T) {
	type condition = autoscalingv2.HorizontalPodAutoscalerConditionType
	for name, c := range map[string]struct {
		in     func() Input
		kind   condition
		status corev1.ConditionStatus
		reason string
	}{
		"no scale":       {func() Input { in := input(scaler(), 2); in.ScaleErr = errors.New("gone"); return in }, autoscalingv2.AbleToScale, corev1.ConditionFalse, "FailedGetScale"},
		"scaled to zero": {func() Input { return input(scaler(), 0) }, autoscalingv2.ScalingActive, corev1.ConditionFalse, "ScalingDisabled"},
		"no selector": {func() Input {
			in := input(scaler(), 2)
			in.SelectorErr = errors.New("the HPA target's scale is missing a selector")
			return in
		}, autoscalingv2.ScalingActive, corev1.ConditionFalse, "InvalidSelector"},
		"no metrics": {func() Input { return input(scaler(), 2, -1, -1) }, autoscalingv2.ScalingActive, corev1.ConditionFalse, "FailedGetResourceMetric"},
		"fine":       {func() Input { return input(scaler(), 2, 500, 500) }, autoscalingv2.ScalingActive, corev1.ConditionTrue, "ValidMetricFound"},
		"in range":   {func() Input { return input(scaler(), 2, 500, 500) }, autoscalingv2.ScalingLimited, corev1.ConditionFalse, "DesiredWithinRange"},
		"too few":    {func() Input { return input(scaler(), 2, 10, 10) }, autoscalingv2.ScalingLimited, corev1.ConditionTrue, "TooFewReplicas"},
		"custom": {func() Input {
			return input(scaler(func(h *autoscalingv2.HorizontalPodAutoscaler) {
				h.Spec.Metrics = []autoscalingv2.MetricSpec{{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "qps"}}}}
			}), 2, 500, 500)
		}, autoscalingv2.ScalingActive, corev1.ConditionFalse, "FailedGetPodsMetric"},
	} {
		in := c.in()
		if name == "too few" {
			in.Memory = Memory{recommendations: []recommendation{{now.Add(-time.Hour), 1}}}
		}
		out := Reconcile(in, now)
		if got := statusOf(t, out.Plan)[c.kind]; got.Status != c.status || got.Reason != c.reason {
			t.Errorf("%s: %+v", name, got)
		}
		if out.Rescale != nil {
			t.Errorf("%s: scales to %d", name, out.Rescale.To)
		}
	}
	// What was written is not written again.
	out := Reconcile(input(scaler(), 2, 500, 500), now)
	in := input(out.Plan.Writes[0].Object.(*autoscalingv2.HorizontalPodAutoscaler), 2, 500, 500)
	in.Memory = out.Memory
	if again := Reconcile(in, now.Add(Period)); !again.Plan.Empty() || again.Plan.After != Period {
		t.Errorf("again: %+v", again.Plan)
	}
}

// A size out of bounds is brought within, whatever the metrics say; one metric that fails stops a decline, not a growth.
func TestBounds(t *testing.T) {
	for _, c := range []struct{ replicas, want int32 }{{1, 2}, {20, 10}} {
		if out := Reconcile(input(scaler(), c.replicas), now); out.Rescale == nil || out.Rescale.To != c.want {
			t.Errorf("%d: %+v", c.replicas, out.Rescale)
		}
	}
	broken := func(h *autoscalingv2.HorizontalPodAutoscaler) {
		h.Spec.Metrics = append(h.Spec.Metrics, autoscalingv2.MetricSpec{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "qps"}}})
	}
	if out := Reconcile(input(scaler(broken), 4, 10, 10, 10, 10), now); out.Rescale != nil {
		t.Errorf("declines to %d", out.Rescale.To)
	}
	if out := Reconcile(input(scaler(broken), 2, 1000, 1000), now); out.Rescale == nil || out.Rescale.To != 4 {
		t.Errorf("%+v", out.Rescale)
	}
}

// play runs an autoscaler over time; load returns what each pod uses at a size and time. It returns the sizes, one per period.
func play(h *autoscalingv2.HorizontalPodAutoscaler, replicas int32, periods int, load func(replicas int32, at time.Duration) int64) (sizes []int32) {
	var memory Memory
	for i := range periods {
		at := time.Duration(i) * Period
		cpu := make([]int64, replicas)
		for j := range cpu {
			cpu[j] = load(replicas, at)
		}
		in := input(h, replicas, cpu...)
		in.Memory = memory
		for name, u := range in.Usage {
			u.At = now.Add(at)
			in.Usage[name] = u
		}
		out := Reconcile(in, now.Add(at))
		memory = out.Memory
		if r := out.Rescale; r != nil {
			in.Last, in.Memory = r, memory
			memory = Reconcile(in, now.Add(at)).Memory
			replicas = r.To
		}
		sizes = append(sizes, replicas)
	}
	return sizes
}

// Without behavior a target grows at most twofold or to four, and declines only when the highest recommendation of five minutes
// allows it.
func TestDefaultPace(t *testing.T) {
	most := func(h *autoscalingv2.HorizontalPodAutoscaler) { h.Spec.MaxReplicas = 100 }
	sizes := play(scaler(most), 2, 4, func(int32, time.Duration) int64 { return 5000 })
	if fmt.Sprint(sizes) != "[4 8 16 32]" {
		t.Errorf("grows %v", sizes)
	}
	sizes = play(scaler(most), 8, 24, func(int32, time.Duration) int64 { return 10 })
	for i, n := range sizes {
		if want := map[bool]int32{true: 8, false: 2}[i < 20]; n != want {
			t.Fatalf("declines %v", sizes)
		}
	}
}

// Policies limit the pace in their period, a window holds a growth back, and a direction can be switched off.
func TestBehavior(t *testing.T) {
	seconds := func(n int32) *int32 { return &n }
	policy := func(p autoscalingv2.ScalingPolicySelect) *autoscalingv2.ScalingPolicySelect { return &p }
	with := func(up, down *autoscalingv2.HPAScalingRules) *autoscalingv2.HorizontalPodAutoscaler {
		return scaler(func(h *autoscalingv2.HorizontalPodAutoscaler) {
			h.Spec.MaxReplicas, h.Spec.Behavior = 100, &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: up, ScaleDown: down}
		})
	}
	rates := func(window int32, choose autoscalingv2.ScalingPolicySelect, policies ...autoscalingv2.HPAScalingPolicy) *autoscalingv2.HPAScalingRules {
		return &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: seconds(window), SelectPolicy: policy(choose), Policies: policies}
	}
	pods := func(n, period int32) autoscalingv2.HPAScalingPolicy {
		return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: n, PeriodSeconds: period}
	}
	percent := func(n, period int32) autoscalingv2.HPAScalingPolicy {
		return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: n, PeriodSeconds: period}
	}
	fast := rates(0, autoscalingv2.MaxChangePolicySelect, percent(100, 15))
	busy := func(int32, time.Duration) int64 { return 5000 }
	idle := func(int32, time.Duration) int64 { return 1 }
	for name, c := range map[string]struct {
		hpa   *autoscalingv2.HorizontalPodAutoscaler
		start int32
		load  func(int32, time.Duration) int64
		want  string
	}{
		"two pods a minute up":       {with(rates(0, autoscalingv2.MaxChangePolicySelect, pods(2, 60)), fast), 4, busy, "[6 6 6 6 8 8]"},
		"the larger of two policies": {with(rates(0, autoscalingv2.MaxChangePolicySelect, pods(1, 15), percent(100, 15)), fast), 4, busy, "[8 16 32 64 100 100]"},
		"the smaller of two":         {with(rates(0, autoscalingv2.MinChangePolicySelect, pods(1, 15), percent(100, 15)), fast), 4, busy, "[5 6 7 8 9 10]"},
		"no growth":                  {with(rates(0, autoscalingv2.DisabledPolicySelect, pods(1, 15)), fast), 4, busy, "[4 4 4 4 4 4]"},
		"one pod a period down":      {with(fast, rates(0, autoscalingv2.MaxChangePolicySelect, pods(1, 15))), 6, idle, "[5 4 3 2 2 2]"},
		"half a minute down":         {with(fast, rates(0, autoscalingv2.MaxChangePolicySelect, percent(50, 60))), 8, idle, "[4 4 4 4 2 2]"},
		"a window before a decline":  {with(fast, rates(45, autoscalingv2.MaxChangePolicySelect, percent(100, 15))), 8, idle, "[8 8 8 2 2 2]"},
		"a window before a growth": {with(rates(30, autoscalingv2.MaxChangePolicySelect, percent(100, 15)), fast), 4,
			func(_ int32, at time.Duration) int64 {
				if at == 2*Period {
					return 500 // once back within, the window begins anew
				}
				return 5000
			}, "[4 4 4 4 8 16]"},
	} {
		if got := fmt.Sprint(play(c.hpa, c.start, 6, c.load)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// The tolerance of a direction is its own.
func TestTolerance(t *testing.T) {
	fine := resource.MustParse("0.01")
	h := scaler(func(h *autoscalingv2.HorizontalPodAutoscaler) {
		h.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{
			ScaleUp: &autoscalingv2.HPAScalingRules{Tolerance: &fine, Policies: []autoscalingv2.HPAScalingPolicy{{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15}}},
		}
	})
	if out := Reconcile(input(h, 2, 520, 520), now); out.Rescale == nil || out.Rescale.To != 3 {
		t.Errorf("%+v", out.Rescale)
	}
}

// CPU use is the difference of two readings over their time; one reading, or one after a restart, says nothing.
func TestSamples(t *testing.T) {
	s := newSamples()
	read := func(seconds int, nanos uint64) (Usage, bool) {
		at := now.Add(time.Duration(seconds) * time.Second)
		return s.take(&nodev1.PodStats{Uid: "u", Containers: []*nodev1.ContainerStats{{Name: "c", Time: timestamppb.New(at), CpuUsageCoreNanoseconds: nanos, MemoryWorkingSetBytes: 1 << 20}}}, at)
	}
	if _, ok := read(0, 0); ok {
		t.Error("one reading is enough")
	}
	u, ok := read(10, 5e9)
	if cpu, known := u.of(corev1.ResourceCPU, ""); !ok || !known || cpu != 500 || u.Window != 10*time.Second {
		t.Errorf("%+v", u)
	}
	if u, ok = read(11, 9e9); !ok || u.Window != 10*time.Second {
		t.Errorf("a second later: %+v", u)
	}
	if _, ok := read(30, 1e9); ok {
		t.Error("a restarted counter is trusted")
	}
	s.forget(now.Add(time.Hour))
	if len(s.last) != 0 {
		t.Error("nothing is forgotten")
	}
}
