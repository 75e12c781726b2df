package autoscaler

import (
	"errors"
	"fmt"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/controllermanager/pods"
)

const (
	// initialization is how long after its start a pod's CPU use is not trusted unless it was measured while the pod was ready.
	initialization = 5 * time.Minute
	// initialReadiness is within which time a pod that turned not ready has never been ready.
	initialReadiness = 30 * time.Second
)

// Usage is what a pod's containers use, averaged over a window that ends at a time: CPU in millicores, memory in thousandths of a
// byte, as quantities count.
type Usage struct {
	Containers map[string]corev1.ResourceList
	At         time.Time
	Window     time.Duration
}

// of returns the use of a resource, by one container or, with an empty name, by the whole pod; false if it is not known of all.
func (u Usage) of(name corev1.ResourceName, container string) (int64, bool) {
	sum := int64(0)
	found := false
	for c, list := range u.Containers {
		if container != "" && c != container {
			continue
		}
		q, ok := list[name]
		if !ok {
			return 0, false
		}
		sum += q.MilliValue()
		found = true
	}
	return sum, found
}

// target is what a metric asks for: a utilization in percent of the requests, or an average.
type target struct {
	resource  corev1.ResourceName
	container string
	// utilization in percent, or 0; average in milli-units.
	utilization, average int64
}

// tolerance is how far the ratio of use to target may be from 1 without a change.
type tolerance struct{ up, down float64 }

func (t tolerance) covers(ratio float64) bool { return 1-t.down <= ratio && ratio <= 1+t.up }

// groups are a target's pods by what their metrics are good for.
type groups struct {
	ready int
	// measured is the use of pods that count; unready pods count for nothing when scaling up, those without metrics for as much as
	// holds the scaling back.
	measured         map[string]int64
	unready, missing []*corev1.Pod
}

// sortPods groups pods, as upstream does.
func sortPods(list []*corev1.Pod, usage map[string]Usage, t target, now time.Time) groups {
	g := groups{measured: map[string]int64{}}
	for _, p := range list {
		if p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodFailed {
			continue
		}
		u, known := usage[p.Name]
		value, complete := u.of(t.resource, t.container)
		switch {
		case p.Status.Phase == corev1.PodPending:
			g.unready = append(g.unready, p)
		case !known || !complete:
			g.missing = append(g.missing, p)
		case t.resource == corev1.ResourceCPU && starting(p, u, now):
			g.unready = append(g.unready, p)
		default:
			g.ready++
			g.measured[p.Name] = value
		}
	}
	return g
}

// starting reports whether a pod's CPU use tells of its start and not of its work.
func starting(p *corev1.Pod, u Usage, now time.Time) bool {
	ready := pods.Condition(p, corev1.PodReady)
	if ready == nil || p.Status.StartTime == nil {
		return true
	}
	if p.Status.StartTime.Add(initialization).After(now) {
		return ready.Status == corev1.ConditionFalse || u.At.Before(ready.LastTransitionTime.Add(u.Window))
	}
	return ready.Status == corev1.ConditionFalse && p.Status.StartTime.Add(initialReadiness).After(ready.LastTransitionTime.Time)
}

// Why no number of replicas could be computed.
var errNoMetrics = errors.New("did not receive metrics for targeted pods (pods might be unready)")

// reading is what a metric says: how many replicas it wants, and its current value.
type reading struct {
	replicas             int32
	utilization, average int64 // utilization in percent, if that is the target; average in milli-units
}

// compute returns how many replicas a metric wants.
func compute(current int32, list []*corev1.Pod, usage map[string]Usage, t target, tol tolerance, now time.Time) (reading, error) {
	g := sortPods(list, usage, t, now)
	if len(g.measured) == 0 {
		return reading{}, errNoMetrics
	}
	ratio := averageRatio(t)
	fallback := func(*corev1.Pod) int64 { return t.average }
	if t.utilization > 0 {
		requests, err := requestsOf(list, t)
		if err != nil {
			return reading{}, err
		}
		ratio = utilizationRatio(t, requests)
		// A pod without metrics is taken to use what was requested, or the target if that is more.
		fallback = func(p *corev1.Pod) int64 { return requests[p.Name] * max(100, t.utilization) / 100 }
	}
	r, out, err := ratio(g.measured)
	if err != nil {
		return reading{}, err
	}
	out.replicas = wanted(current, g, r, tol, ratio, fallback)
	return out, nil
}

// ratioOf tells how the measured use relates to the target.
type ratioOf func(measured map[string]int64) (float64, reading, error)

func averageRatio(t target) ratioOf {
	return func(measured map[string]int64) (float64, reading, error) {
		average := sumOf(measured) / int64(len(measured))
		return float64(average) / float64(t.average), reading{average: average}, nil
	}
}

func utilizationRatio(t target, requests map[string]int64) ratioOf {
	return func(measured map[string]int64) (float64, reading, error) {
		asked := int64(0)
		for name := range measured {
			asked += requests[name]
		}
		if asked == 0 {
			return 0, reading{}, errors.New("no metrics returned matched known pods")
		}
		used := sumOf(measured)
		utilization := used * 100 / asked
		return float64(utilization) / float64(t.utilization), reading{utilization: utilization, average: used / int64(len(measured))}, nil
	}
}

func sumOf(m map[string]int64) (sum int64) {
	for _, v := range m {
		sum += v
	}
	return sum
}

// wanted turns the ratio into a number of replicas, with the pods that say nothing taken for what changes least.
func wanted(current int32, g groups, r float64, tol tolerance, ratio ratioOf, fallback func(*corev1.Pod) int64) int32 {
	withUnready := len(g.unready) > 0 && r > 1
	if !withUnready && len(g.missing) == 0 {
		if tol.covers(r) {
			return current
		}
		return ceil(r * float64(g.ready))
	}
	if r != 1 {
		for _, p := range g.missing {
			g.measured[p.Name] = 0
			if r < 1 {
				g.measured[p.Name] = fallback(p)
			}
		}
	}
	if withUnready {
		for _, p := range g.unready {
			g.measured[p.Name] = 0
		}
	}
	again, _, err := ratio(g.measured)
	if err != nil || tol.covers(again) || r < 1 && again > 1 || r > 1 && again < 1 {
		return current
	}
	n := ceil(again * float64(len(g.measured)))
	if again < 1 && n > current || again > 1 && n < current {
		return current // What is assumed must not turn the direction.
	}
	return n
}

func ceil(f float64) int32 { return int32(min(math.Ceil(f), math.MaxInt32)) }

// requestsOf are what the pods, or one container of each, ask of a resource. All containers must ask for something.
func requestsOf(list []*corev1.Pod, t target) (map[string]int64, error) {
	out := map[string]int64{}
	for _, p := range list {
		sum, found := int64(0), false
		for _, c := range running(p) {
			if t.container != "" && c.Name != t.container {
				continue
			}
			q, ok := c.Resources.Requests[t.resource]
			if !ok {
				return nil, fmt.Errorf("missing request for %s in container %s of Pod %s", t.resource, c.Name, p.Name)
			}
			sum += q.MilliValue()
			found = true
		}
		if t.container != "" && !found {
			return nil, fmt.Errorf("container %s not found in Pod %s", t.container, p.Name)
		}
		if p.Spec.Resources != nil && t.container == "" {
			if q, ok := p.Spec.Resources.Requests[t.resource]; ok {
				sum = q.MilliValue() // What the pod asks for as a whole counts (KEP-2837).
			}
		}
		out[p.Name] = sum
	}
	return out, nil
}

// running returns the containers that run beside each other: regular ones and sidecars.
func running(p *corev1.Pod) []corev1.Container {
	out := append([]corev1.Container(nil), p.Spec.Containers...)
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			out = append(out, c)
		}
	}
	return out
}
