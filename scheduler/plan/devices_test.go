package plan

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// deviceCluster has n nodes with eight devices each and a class of them all.
func deviceCluster(n int) *Cluster {
	c := NewWithDevices(func(string, string, *resourcev1.Device) (bool, error) { return true, nil })
	c.Devices().SetClass(&resourcev1.DeviceClass{
		ObjectMeta: metav1.ObjectMeta{Name: "gpu"},
		Spec:       resourcev1.DeviceClassSpec{Selectors: []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{Expression: "any"}}}},
	})
	for i := range n {
		name := fmt.Sprintf("n%d", i)
		c.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
			"cpu": resource.MustParse("64"), "memory": resource.MustParse("256Gi"), "pods": resource.MustParse("110"),
		}}})
		s := &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: resourcev1.ResourceSliceSpec{
			Driver: "d", NodeName: &name, Pool: resourcev1.ResourcePool{Name: name, Generation: 1, ResourceSliceCount: 1},
		}}
		for j := range 8 {
			s.Spec.Devices = append(s.Spec.Devices, resourcev1.Device{Name: fmt.Sprintf("d%d", j)})
		}
		c.Devices().SetSlice(s)
	}
	return c
}

// devicePod makes a pod and its claim of n devices.
func devicePod(c *Cluster, name string, n int64) *corev1.Pod {
	c.Devices().SetClaim(&resourcev1.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("claim-" + name)},
		Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{
			{Name: "r", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: n}},
		}}},
	})
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("pod-" + name)},
		Spec: corev1.PodSpec{
			ResourceClaims: []corev1.PodResourceClaim{{Name: "g", ResourceClaimName: &name}},
			Containers:     []corev1.Container{{Name: "c", Image: "i"}},
		},
	}
}

// Pods go where there are devices for them until there are none, which is explained with the reasons of other plugins; preemption does
// not help, and a pod whose decision was taken back leaves its devices to the next.
func TestDevices(t *testing.T) {
	c := deviceCluster(2)
	full := c.nodes[c.byName["n1"]].obj.DeepCopy()
	full.Spec.Unschedulable = true
	c.SetNode(full)
	first := c.Schedule(devicePod(c, "a", 5))
	if first.Node != "n0" || len(first.Claims) != 1 || len(first.Claims[0].Allocation.Devices.Results) != 5 {
		t.Fatalf("%+v", first)
	}
	late := devicePod(c, "b", 5)
	d := c.Schedule(late)
	const want = "0/2 nodes are available: 1 cannot allocate all claims, 1 node(s) were unschedulable."
	if d.Node != "" || d.Why.String() != want || d.Why.Plugins != DynamicResources|NodeUnschedulable {
		t.Errorf("%s %v, want %s", d.Node, d.Why, want)
	}
	if p := c.Preempt(late, nil); p.Node != "" || !strings.Contains(p.Why, "2 Preemption is not helpful for scheduling") {
		t.Errorf("%+v", p)
	}
	c.Forget(first.Pod.UID)
	if d := c.Schedule(late); d.Node != "" {
		t.Errorf("devices that may have been written are given away: %+v", d)
	}
	c.Devices().Forget(first.Pod.UID)
	if d := c.Schedule(late); d.Node != "n0" {
		t.Errorf("%v", d.Why)
	}
}

// BenchmarkDevices measures decisions for pods with a claim of one device each, on nodes that fill up.
func BenchmarkDevices(b *testing.B) {
	for _, n := range []int{100, 5000} {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			c, left, pods := deviceCluster(n), 0, 0
			for b.Loop() {
				if left == 0 {
					b.StopTimer()
					c, left = deviceCluster(n), 4*n
					b.StartTimer()
				}
				left--
				pods++
				if d := c.Schedule(devicePod(c, fmt.Sprintf("p%d", pods), 1)); d.Node == "" {
					b.Fatal(d.Why, d.Err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
		})
	}
}
