package loop_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

const gpuDriver = "gpu.example.com"

// gpus makes a node's devices, and their class.
func (r *rig) gpus(node string, names ...string) {
	clienttest.Put(r.s, client.DeviceClasses(), &resourcev1.DeviceClass{
		ObjectMeta: metav1.ObjectMeta{Name: "gpu"},
		Spec:       resourcev1.DeviceClassSpec{Selectors: []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{Expression: `device.driver == "gpu.example.com"`}}}},
	})
	s := &resourcev1.ResourceSlice{
		ObjectMeta: metav1.ObjectMeta{Name: node},
		Spec:       resourcev1.ResourceSliceSpec{Driver: gpuDriver, NodeName: &node, Pool: resourcev1.ResourcePool{Name: node, Generation: 1, ResourceSliceCount: 1}},
	}
	for _, n := range names {
		s.Spec.Devices = append(s.Spec.Devices, resourcev1.Device{Name: n})
	}
	clienttest.Put(r.s, client.ResourceSlices(), s)
}

func (r *rig) gpuClaim(name string) {
	r.t.Helper()
	_, err := client.Of(r.s.Client(), client.ResourceClaims()).Create(r.t.Context(), &resourcev1.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{
			{Name: "r", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 1}},
		}}},
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// createWithDevices makes a pod that uses claims.
func (r *rig) createWithDevices(name string, claims ...string) {
	r.t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
	for _, c := range claims {
		pod.Spec.ResourceClaims = append(pod.Spec.ResourceClaims, corev1.PodResourceClaim{Name: c, ResourceClaimName: &c})
	}
	if _, err := client.Of(r.s.Client(), client.Pods()).Create(r.t.Context(), pod); err != nil {
		r.t.Fatal(err)
	}
}

// devices lists "claim=device<-users" of all claims.
func (r *rig) devices() string {
	r.t.Helper()
	claims, _, err := client.Of(r.s.Client(), client.ResourceClaims()).List(r.t.Context(), "", client.ListOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, c := range claims {
		line := c.Name + "="
		if a := c.Status.Allocation; a != nil {
			for _, d := range a.Devices.Results {
				line += d.Pool + "/" + d.Device
			}
			if len(c.Finalizers) != 1 || c.Finalizers[0] != resourcev1.Finalizer {
				r.t.Errorf("%s has devices and finalizers %v", c.Name, c.Finalizers)
			}
		}
		for _, ref := range c.Status.ReservedFor {
			line += "<-" + ref.Name
		}
		out = append(out, line)
	}
	return strings.Join(out, " ")
}

func (r *rig) expectDevices(want string) {
	r.t.Helper()
	if got := r.devices(); got != want {
		r.t.Errorf("claims: %s\nwant: %s", got, want)
	}
}

// Shows that devices are allocated and reserved before their pods are bound, that a claim is shared by pods on one node, and that a
// pod without devices waits, with the reason, until there are some.
func TestAllocatesDevices(t *testing.T) {
	story(t, func(t *testing.T, r *rig) {
		r.node("a", 10)
		r.node("b", 10)
		r.gpus("b", "gpu-0")
		stop := r.scheduler()
		r.gpuClaim("one")
		r.gpuClaim("two")
		r.createWithDevices("p1", "one")
		r.createWithDevices("p2", "one")
		time.Sleep(5 * time.Second)
		r.expect("p1=b p2=b")
		r.createWithDevices("p3", "two")
		r.createWithDevices("p4", "three")
		time.Sleep(5 * time.Second)
		r.expect("p1=b p2=b p3= p4=")
		if got := r.failures("p3"); len(got) == 0 || !strings.HasPrefix(got[0], "0/2 nodes are available: 2 cannot allocate all claims.") {
			t.Errorf("p3: %v", got)
		}
		if got := r.failures("p4"); len(got) == 0 || !strings.HasPrefix(got[0], `0/2 nodes are available: resourceclaim.resource.k8s.io "three" not found.`) {
			t.Errorf("p4: %v", got)
		}
		r.gpus("a", "gpu-0", "gpu-1")
		r.gpuClaim("three")
		time.Sleep(20 * time.Second)
		r.expect("p1=b p2=b p3=a p4=a")
		if got := r.devices(); !strings.HasPrefix(got, "one=b/gpu-0<-p1<-p2 ") && !strings.HasPrefix(got, "one=b/gpu-0<-p2<-p1 ") {
			t.Error(got)
		}
		stop()
	})
}

// Shows that of many pods and fewer devices each device goes to one pod, and that a device that is given back goes to one that waits.
func TestDevicesAreGivenOnce(t *testing.T) {
	story(t, func(t *testing.T, r *rig) {
		r.node("a", 100)
		r.node("b", 100)
		r.gpus("a", "g0", "g1", "g2")
		r.gpus("b", "g0", "g1", "g2")
		stop := r.scheduler()
		for i := range 10 {
			r.gpuClaim(fmt.Sprintf("c%d", i))
			r.createWithDevices(fmt.Sprintf("p%d", i), fmt.Sprintf("c%d", i))
		}
		time.Sleep(20 * time.Second)
		given := func() int {
			seen := map[string]bool{}
			for _, part := range strings.Fields(r.devices()) {
				_, d, _ := strings.Cut(part, "=")
				d, _, _ = strings.Cut(d, "<-")
				if d != "" && seen[d] {
					t.Errorf("%s is given twice", d)
				}
				seen[d] = true
			}
			delete(seen, "")
			return len(seen)
		}
		if n := given(); n != 6 {
			t.Errorf("%d devices are given, of 6: %s", n, r.devices())
		}
		for _, part := range strings.Fields(r.devices()) {
			if name, d, _ := strings.Cut(part, "="); d != "" { // as the claims' controller does once the pod is gone
				api := client.Of(r.s.Client(), client.ResourceClaims())
				c, err := api.Get(t.Context(), "default", name)
				if err != nil {
					t.Fatal(err)
				}
				zero := int64(0)
				if err := client.Of(r.s.Client(), client.Pods()).Delete(t.Context(), "default", "p"+name[1:], client.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
					t.Fatal(err)
				}
				c.Status.Allocation, c.Status.ReservedFor = nil, nil
				if _, err := api.UpdateStatus(t.Context(), c); err != nil {
					t.Fatal(err)
				}
				break
			}
		}
		time.Sleep(20 * time.Second)
		if n := given(); n != 6 {
			t.Errorf("%d devices are given after one came back, of 6: %s", n, r.devices())
		}
		stop()
	})
}

// Shows that a pod of two claims gets both or none: what was written when the second failed is taken back, and the pod is tried again.
func TestRollsBack(t *testing.T) {
	story(t, func(t *testing.T, r *rig) {
		r.node("a", 10)
		r.gpus("a", "g0", "g1")
		r.gpuClaim("one")
		r.gpuClaim("two")
		var broken atomic.Bool
		broken.Store(true)
		r.s.Fail(func(method string, ref *apiv1.ResourceRef) error {
			if broken.Load() && method == "Update" && ref.GetName() == "two" {
				return errors.New("injected")
			}
			return nil
		})
		stop := r.scheduler()
		r.createWithDevices("p", "one", "two")
		time.Sleep(500 * time.Millisecond)
		r.expect("p=")
		r.expectDevices("one= two=")
		broken.Store(false)
		time.Sleep(20 * time.Second)
		r.expect("p=a")
		r.expectDevices("one=a/g0<-p two=a/g1<-p")
		stop()
	})
}

// Shows that a conflict with another writer of a claim is settled by reading it again.
func TestClaimConflict(t *testing.T) {
	story(t, func(t *testing.T, r *rig) {
		r.node("a", 10)
		r.gpus("a", "g0")
		r.gpuClaim("one")
		var conflicts atomic.Int32
		r.s.Fail(func(method string, ref *apiv1.ResourceRef) error {
			if method == "Update" && ref.GetName() == "one" && conflicts.Add(1) <= 2 {
				return apierrors.NewConflict(schema.GroupResource{Group: "resource.k8s.io", Resource: "resourceclaims"}, "one", errors.New("injected"))
			}
			return nil
		})
		stop := r.scheduler()
		r.createWithDevices("p", "one")
		time.Sleep(time.Second)
		r.expect("p=a")
		r.expectDevices("one=a/g0<-p")
		stop()
	})
}

// Shows that a claim which is allocated where its only pod cannot go is taken back and allocated where it can.
func TestStrandedClaim(t *testing.T) {
	story(t, func(t *testing.T, r *rig) {
		r.node("a", 0)
		r.node("b", 10)
		r.gpus("a", "g0")
		r.gpus("b", "g0")
		r.gpuClaim("one")
		api := client.Of(r.s.Client(), client.ResourceClaims())
		c, err := api.Get(t.Context(), "default", "one")
		if err != nil {
			t.Fatal(err)
		}
		c.Finalizers = []string{resourcev1.Finalizer}
		c.Status.Allocation = &resourcev1.AllocationResult{
			Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{{Request: "r", Driver: gpuDriver, Pool: "a", Device: "g0"}}},
			NodeSelector: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{
				{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"a"}},
			}}}},
		}
		clienttest.Put(r.s, client.ResourceClaims(), c)
		stop := r.scheduler()
		r.createWithDevices("p", "one")
		time.Sleep(20 * time.Second)
		r.expect("p=b")
		r.expectDevices("one=b/g0<-p")
		stop()
	})
}
