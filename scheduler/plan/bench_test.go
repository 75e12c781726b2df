package plan

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func benchCluster(nodes int) *Cluster {
	c := New()
	for i := range nodes {
		name := fmt.Sprintf("node-%d", i)
		c.SetNode(&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name, "zone": fmt.Sprint(i % 3)}},
			Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
				"cpu": resource.MustParse("64"), "memory": resource.MustParse("256Gi"), "pods": resource.MustParse("110"),
			}},
		})
	}
	return c
}

func benchPod(i int) *corev1.Pod {
	name := fmt.Sprintf("pod-%d", i)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name), Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "web:1", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("128Mi")},
		}}}},
	}
}

// cpuTime is the processor time of this process so far, garbage collection included: on a machine that others use too it says more
// than the clock.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// replica makes a pod one of a thousand replicas and returns what selects them.
func replica(p *corev1.Pod, i int) *metav1.LabelSelector {
	p.Labels = map[string]string{"group": fmt.Sprint(i / 1000)}
	return &metav1.LabelSelector{MatchLabels: p.Labels}
}

// BenchmarkSchedule measures decisions one by one, on clusters that fill up to 10 pods a node, for each kind of pod.
func BenchmarkSchedule(b *testing.B) {
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	for _, kind := range []struct {
		name string
		make func(p *corev1.Pod, i int)
	}{
		{"plain", func(*corev1.Pod, int) {}},
		{"shapes-200", func(p *corev1.Pod, i int) {
			p.Spec.Containers[0].Resources.Requests["cpu"] = *resource.NewMilliQuantity(int64(100+i%200), resource.DecimalSI)
		}},
		{"spread", func(p *corev1.Pod, _ int) {
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: selector}}
		}},
		{"anti", func(p *corev1.Pod, i int) {
			selector := replica(p, i)
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
				{TopologyKey: corev1.LabelHostname, LabelSelector: selector},
			}}}
		}},
		{"prefer-apart", func(p *corev1.Pod, i int) {
			selector := replica(p, i)
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{
				{Weight: 100, PodAffinityTerm: corev1.PodAffinityTerm{TopologyKey: corev1.LabelHostname, LabelSelector: selector}},
			}}}
		}},
		{"spread-hosts", func(p *corev1.Pod, i int) {
			selector := replica(p, i)
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 5, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: selector}}
		}},
		{"affinity", func(p *corev1.Pod, _ int) {
			p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
				{TopologyKey: "zone", LabelSelector: selector},
			}}}
		}},
	} {
		for _, nodes := range []int{5000, 50000} {
			b.Run(fmt.Sprintf("%s/nodes=%d", kind.name, nodes), func(b *testing.B) {
				c := benchCluster(nodes)
				pods := make([]*corev1.Pod, b.N)
				for i := range pods {
					pods[i] = benchPod(i)
					kind.make(pods[i], i)
				}
				c.Schedule(benchPod(-1)) // build what the first decision builds
				b.ResetTimer()
				start := cpuTime()
				for i := range pods {
					if i%(10*nodes) == 0 {
						for _, p := range pods[max(0, i-10*nodes):i] {
							c.Forget(p.UID)
						}
					}
					if d := c.Schedule(pods[i]); d.Node == "" {
						b.Fatal(d.Why, d.Err)
					}
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
				b.ReportMetric(float64(b.N)/(cpuTime()-start).Seconds(), "decisions/cpu-s")
			})
		}
	}
}

// BenchmarkPreempt measures searches for victims, where every node is full of less important pods.
func BenchmarkPreempt(b *testing.B) {
	c := benchCluster(5000)
	for i := range 50_000 {
		p := benchPod(i)
		p.Spec.Containers[0].Resources.Requests["cpu"] = resource.MustParse("6400m")
		if d := c.Schedule(p); d.Node == "" {
			b.Fatal(d.Why)
		}
	}
	priority := int32(10)
	p := benchPod(-1)
	p.Spec.Priority = &priority
	p.Spec.Containers[0].Resources.Requests["cpu"] = resource.MustParse("6400m")
	b.ResetTimer()
	for range b.N {
		if d := c.Schedule(p); d.Node != "" {
			b.Fatal("placed without preemption")
		}
		if v := c.Preempt(p, nil); len(v.Victims) != 1 {
			b.Fatal(v)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
}
