package devices

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// A rule taints the devices that its selector is about until it goes, with the words left out meaning any and no selector none, and is
// tolerated as a driver's taint is.
func TestTaintRule(t *testing.T) {
	tolerant := exactly("r", 1)
	tolerant.Exactly.Tolerations = []resourcev1.DeviceToleration{{Key: "broken", Operator: resourcev1.DeviceTolerationOpExists}}
	for name, c := range map[string]struct {
		selector *resourcev1.DeviceTaintSelector
		effect   resourcev1.DeviceTaintEffect
		request  resourcev1.DeviceRequest
		want     string
	}{
		"one device":       {&resourcev1.DeviceTaintSelector{Driver: p(driver), Pool: p("pool"), Device: p("a")}, "NoExecute", exactly("r", 1), "c: r=pool/b"},
		"other driver":     {&resourcev1.DeviceTaintSelector{Driver: p("other"), Device: p("a")}, "NoExecute", exactly("r", 1), "c: r=pool/a"},
		"everything":       {&resourcev1.DeviceTaintSelector{}, "NoSchedule", exactly("r", 1), CannotAllocate},
		"no selector":      {nil, "NoSchedule", exactly("r", 1), "c: r=pool/a"},
		"tolerated":        {&resourcev1.DeviceTaintSelector{}, "NoSchedule", tolerant, "c: r=pool/a"},
		"informs only":     {&resourcev1.DeviceTaintSelector{}, "None", exactly("r", 1), "c: r=pool/a"},
		"all, one tainted": {&resourcev1.DeviceTaintSelector{Device: p("b")}, "NoSchedule", allOf("r"), CannotAllocate},
	} {
		t.Run(name, func(t *testing.T) {
			claim := claimOf("c", c.request)
			table := tableOf(claim)
			table.SetSlice(sliceOf("n", "pool", dev("a"), dev("b")))
			before := decide(table, podOf("p", "c"), nodeOf("n"))
			table.Forget(podOf("p", "c").UID)
			table.SetTaintRule(&resourcev1.DeviceTaintRule{ObjectMeta: metav1.ObjectMeta{Name: "rule"}, Spec: resourcev1.DeviceTaintRuleSpec{
				DeviceSelector: c.selector, Taint: resourcev1.DeviceTaint{Key: "broken", Effect: c.effect},
			}})
			if got := decide(table, podOf("p", "c"), nodeOf("n")); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			table.Forget(podOf("p", "c").UID)
			table.RemoveTaintRule("rule")
			if got := decide(table, podOf("p", "c"), nodeOf("n")); got != before {
				t.Errorf("without the rule %s, want %s", got, before)
			}
		})
	}
}

// Each kind of request gets the first devices that satisfy it, and says in kube-scheduler's words when there are none.
func TestAllocation(t *testing.T) {
	four := sliceOf("n", "pool", dev("a", "model=x", "numa=0"), dev("b", "model=y", "numa=0"), dev("c", "model=x", "numa=1"), dev("d", "model=y", "numa=1"))
	tolerant := exactly("r", 1)
	tolerant.Exactly.Tolerations = []resourcev1.DeviceToleration{{Key: "broken", Operator: resourcev1.DeviceTolerationOpExists}}
	admin := exactly("r", 2)
	admin.Exactly.AdminAccess = p(true)
	old, incomplete, newer := sliceOf("n", "pool", dev("old")), sliceOf("n", "pool", dev("a")), sliceOf("n", "pool", dev("new"))
	old.Name, newer.Spec.Pool.Generation, incomplete.Spec.Pool.ResourceSliceCount = "old", 2, 2
	big := exactly("r", 1)
	big.Exactly.Capacity = &resourcev1.CapacityRequirements{Requests: map[resourcev1.QualifiedName]resource.Quantity{"memory": resource.MustParse("3Gi")}}
	perDevice := sliceOf("n", "pool", dev("a"), dev("b"))
	perDevice.Spec.NodeName, perDevice.Spec.PerDeviceNodeSelection = nil, p(true)
	perDevice.Spec.Devices[0].NodeName, perDevice.Spec.Devices[1].AllNodes = p("other"), p(true)
	twice := sliceOf("n", "pool", dev("a"), dev("a"))
	for name, c := range map[string]struct {
		slices []*resourcev1.ResourceSlice
		claim  *resourcev1.ResourceClaim
		want   string
	}{
		"one":                         {[]*resourcev1.ResourceSlice{four}, claimOf("c", exactly("r", 1)), "c: r=pool/a"},
		"by expression":               {[]*resourcev1.ResourceSlice{four}, claimOf("c", exactly("r", 2, "model=y")), "c: r=pool/b r=pool/d"},
		"too many":                    {[]*resourcev1.ResourceSlice{four}, claimOf("c", exactly("r", 3, "model=y")), CannotAllocate},
		"no slice":                    {nil, claimOf("c", exactly("r", 1)), CannotAllocate},
		"elsewhere":                   {[]*resourcev1.ResourceSlice{sliceOf("m", "pool", dev("a"))}, claimOf("c", exactly("r", 1)), CannotAllocate},
		"from the network":            {[]*resourcev1.ResourceSlice{sliceOf("", "net", dev("a"))}, claimOf("c", exactly("r", 1)), "c: r=net/a"},
		"by device":                   {[]*resourcev1.ResourceSlice{perDevice}, claimOf("c", allOf("r")), "c: r=pool/b"},
		"two requests":                {[]*resourcev1.ResourceSlice{four}, claimOf("c", exactly("q", 1, "model=x"), exactly("r", 1)), "c: q=pool/a r=pool/b"},
		"a request gives way":         {[]*resourcev1.ResourceSlice{four}, claimOf("c", exactly("q", 3), exactly("r", 1, "model=x")), "c: q=pool/a q=pool/b q=pool/d r=pool/c"},
		"all":                         {[]*resourcev1.ResourceSlice{four}, claimOf("c", allOf("r", "model=x")), "c: r=pool/a r=pool/c"},
		"all of none":                 {[]*resourcev1.ResourceSlice{four}, claimOf("c", allOf("r", "model=z")), CannotAllocate},
		"first available":             {[]*resourcev1.ResourceSlice{four}, claimOf("c", firstOf("r", "model=z", "model=y", "model=x")), "c: r/sub1=pool/b"},
		"matching":                    {[]*resourcev1.ResourceSlice{four}, matching(claimOf("c", exactly("q", 1, "model=x"), exactly("r", 1, "model=y")), driver+"/numa"), "c: q=pool/a r=pool/b"},
		"matching after a detour":     {[]*resourcev1.ResourceSlice{four}, matching(claimOf("c", exactly("q", 1, "model=x"), exactly("p", 1, "model=y"), exactly("r", 1, "model=y")), driver+"/numa", "q", "r"), "c: q=pool/a p=pool/d r=pool/b"},
		"matching nothing":            {[]*resourcev1.ResourceSlice{four}, matching(claimOf("c", exactly("q", 2)), driver+"/absent"), CannotAllocate},
		"matching too many":           {[]*resourcev1.ResourceSlice{four}, matching(claimOf("c", exactly("q", 3)), driver+"/numa"), CannotAllocate},
		"distinct":                    {[]*resourcev1.ResourceSlice{four}, distinct(claimOf("c", exactly("q", 2)), driver+"/model"), "c: q=pool/a q=pool/b"},
		"tainted":                     {[]*resourcev1.ResourceSlice{sliceOf("n", "pool", tainted(dev("a"), "NoSchedule"), dev("b"))}, claimOf("c", exactly("r", 1)), "c: r=pool/b"},
		"tainted, tolerated":          {[]*resourcev1.ResourceSlice{sliceOf("n", "pool", tainted(dev("a"), "NoExecute"), dev("b"))}, claimOf("c", tolerant), "c: r=pool/a"},
		"tainted without effect":      {[]*resourcev1.ResourceSlice{sliceOf("n", "pool", tainted(dev("a"), "None"))}, claimOf("c", exactly("r", 1)), "c: r=pool/a"},
		"all, one tainted":            {[]*resourcev1.ResourceSlice{sliceOf("n", "pool", tainted(dev("a"), "NoSchedule"), dev("b"))}, claimOf("c", allOf("r")), CannotAllocate},
		"administrator":               {[]*resourcev1.ResourceSlice{four}, claimOf("c", admin), "c: r=pool/a(admin) r=pool/b(admin)"},
		"the newest generation":       {[]*resourcev1.ResourceSlice{old, newer}, claimOf("c", exactly("r", 1)), "c: r=pool/new"},
		"pool not complete":           {[]*resourcev1.ResourceSlice{incomplete}, claimOf("c", exactly("r", 1)), CannotAllocate},
		"two devices of one name":     {[]*resourcev1.ResourceSlice{twice}, claimOf("c", exactly("r", 1)), CannotAllocate},
		"all, another not complete":   {[]*resourcev1.ResourceSlice{sliceOf("n", "good", dev("a")), incomplete}, claimOf("c", allOf("r")), CannotAllocate},
		"capacity that is not there":  {[]*resourcev1.ResourceSlice{four}, claimOf("c", big), CannotAllocate},
		"share of a device":           {[]*resourcev1.ResourceSlice{sliceOf("n", "pool", shared("s", "8Gi", nil))}, claimOf("c", big), "c: r=pool/s[memory 3Gi]"},
		"rounded up":                  {[]*resourcev1.ResourceSlice{sliceOf("n", "pool", shared("s", "8Gi", &resourcev1.CapacityRequestPolicy{ValidRange: &resourcev1.CapacityRequestPolicyRange{Min: p(resource.MustParse("2Gi")), Step: p(resource.MustParse("2Gi"))}}))}, claimOf("c", big), "c: r=pool/s[memory 4Gi]"},
		"to a valid value":            {[]*resourcev1.ResourceSlice{sliceOf("n", "pool", shared("s", "8Gi", &resourcev1.CapacityRequestPolicy{ValidValues: []resource.Quantity{resource.MustParse("2Gi"), resource.MustParse("6Gi")}}))}, claimOf("c", big), "c: r=pool/s[memory 6Gi]"},
		"beyond the range":            {[]*resourcev1.ResourceSlice{sliceOf("n", "pool", shared("s", "8Gi", &resourcev1.CapacityRequestPolicy{ValidRange: &resourcev1.CapacityRequestPolicyRange{Max: p(resource.MustParse("2Gi"))}}))}, claimOf("c", big), CannotAllocate},
		"more devices than allowed":   {[]*resourcev1.ResourceSlice{four}, claimOf("c", exactly("r", 33)), "request r: 33 devices exceed the claim limit of 32"},
		"class that does not exist":   {[]*resourcev1.ResourceSlice{four}, claimOf("c", resourcev1.DeviceRequest{Name: "r", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "none"}}), "request r: device class none does not exist"},
		"a kind of request not known": {[]*resourcev1.ResourceSlice{four}, claimOf("c", resourcev1.DeviceRequest{Name: "r"}), "request r: unsupported request type"},
	} {
		t.Run(name, func(t *testing.T) {
			table := tableOf(c.claim)
			for _, s := range c.slices {
				table.SetSlice(s)
			}
			if got := decide(table, podOf("p", "c"), nodeOf("n")); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// What parts of a card consume never exceeds the card, whoever has them, and comes back.
func TestCounters(t *testing.T) {
	counters := sliceOf("n", "pool")
	counters.Name, counters.Spec.Pool.ResourceSliceCount = "counters", 2
	counters.Spec.SharedCounters = []resourcev1.CounterSet{{Name: "card", Counters: map[string]resourcev1.Counter{"memory": {Value: resource.MustParse("10Gi")}}}}
	parts := sliceOf("n", "pool", part("whole", "10Gi"), part("half-0", "5Gi"), part("half-1", "5Gi"), part("third", "3Gi"))
	parts.Spec.Pool.ResourceSliceCount = 2
	table := tableOf(counters, parts, claimOf("c1", exactly("r", 2)), claimOf("c2", exactly("r", 1)), claimOf("c3", exactly("r", 1)))
	node := nodeOf("n")
	for _, step := range []struct{ pod, claim, want string }{
		{"p1", "c1", "c1: r=pool/half-0 r=pool/half-1"}, {"p2", "c2", CannotAllocate},
	} {
		if got := decide(table, podOf(step.pod, step.claim), node); got != step.want {
			t.Fatalf("%s: %s, want %s", step.claim, got, step.want)
		}
	}
	table.Forget("uid-p1")
	if got := decide(table, podOf("p3", "c3"), node); got != "c3: r=pool/whole" {
		t.Errorf("after the parts came back: %s", got)
	}
}

// A claim is shared by pods once it is allocated; until then, and where its devices cannot be used, pods wait, and the words say why.
func TestClaims(t *testing.T) {
	node, other := nodeOf("n"), nodeOf("m")
	claim := claimOf("c", exactly("r", 1))
	table := tableOf(sliceOf("n", "pool", dev("a")), claim)
	step := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Fatalf("%s: %s, want %s", what, got, want)
		}
	}
	first, second := podOf("p1", "c"), podOf("p2", "c")
	d := table.DemandOf(first)
	step("elsewhere", d.Reject(other), CannotAllocate)
	step("here", d.Reject(node), "")
	steps := table.Assume(d, node)
	step("decided", text(steps), "c: r=pool/a")
	step("meanwhile", decide(table, second, node), "resource claim ns/c is in the process of being allocated")

	allocated := claim.DeepCopy()
	allocated.Status.Allocation = steps[0].Allocation
	allocated.Status.ReservedFor = []resourcev1.ResourceClaimConsumerReference{{Resource: "pods", Name: "p1", UID: first.UID}}
	table.SetClaim(allocated)
	table.Forget(first.UID)
	step("shared", decide(table, second, node), "c: reserve")
	step("shared elsewhere", decide(table, second, other), NotAvailable)
	step("reserved already", decide(table, first, node), "")
	step("taken", decide(tableWith(table, claimOf("c2", exactly("r", 1))), podOf("p3", "c2"), node), CannotAllocate)
	if got := table.Stranded(first); len(got) != 1 || got[0] != allocated {
		t.Errorf("a claim that only the refused pod uses may be taken back: %v", got)
	}
	if got := table.Stranded(second); len(got) != 0 {
		t.Errorf("a claim that another pod uses may not: %v", got)
	}
	full := allocated.DeepCopy()
	full.Status.ReservedFor = make([]resourcev1.ResourceClaimConsumerReference, resourcev1.ResourceClaimReservedForMaxSize)
	step("full", decide(tableOf(full), second, node), "resourceclaim in use")
	step("missing", decide(table, podOf("p", "none"), node), `resourceclaim.resource.k8s.io "none" not found`)
	going := claim.DeepCopy()
	going.DeletionTimestamp = &metav1.Time{}
	step("going", decide(tableOf(going), first, node), `resourceclaim "c" is being deleted`)

	table.RemoveClaim("ns", "c")
	step("freed", decide(table, podOf("p3", "c2"), node), "c2: r=pool/a")
}

func tableWith(t *Table, c *resourcev1.ResourceClaim) *Table {
	t.SetClaim(c)
	return t
}

// A template's claim is used once it is made, and only by the pod that it was made for; an entry that needs none is passed over.
func TestTemplates(t *testing.T) {
	pod := podOf("p")
	pod.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "gpu", ResourceClaimTemplateName: p("t")}}
	claim := claimOf("p-gpu-x", exactly("r", 1))
	table := tableOf(sliceOf("n", "pool", dev("a")), claim)
	node := nodeOf("n")
	if got := decide(table, pod, node); got != `pod "ns/p": ResourceClaim not created yet` {
		t.Error(got)
	}
	pod.Status.ResourceClaimStatuses = []corev1.PodResourceClaimStatus{{Name: "gpu", ResourceClaimName: p("p-gpu-x")}}
	if got := decide(table, pod, node); got != "ResourceClaim ns/p-gpu-x was not created for Pod ns/p (Pod is not owner)" {
		t.Error(got)
	}
	claim.OwnerReferences = []metav1.OwnerReference{{UID: pod.UID, Controller: p(true)}}
	if got := decide(table, pod, node); got != "p-gpu-x: r=pool/a" {
		t.Error(got)
	}
	pod.Status.ResourceClaimStatuses[0].ResourceClaimName = nil
	if got := decide(table, pod, node); got != "" {
		t.Errorf("no claim needed: %q", got)
	}
}

// An expression that fails is reported, and what it was asked of is not given.
func TestExpressionFails(t *testing.T) {
	d := tableOf(sliceOf("n", "pool", dev("a")), claimOf("c", exactly("r", 1, "error"))).DemandOf(podOf("p", "c"))
	if got := d.Reject(nodeOf("n")); got != CannotAllocate || d.Err == nil || !strings.Contains(d.Err.Error(), "selector on device d.example.com/pool/a: no such key") {
		t.Errorf("%s, %v", got, d.Err)
	}
}

// Combinations without end are given up.
func TestGivesUp(t *testing.T) {
	var list []resourcev1.Device
	for i := range 30 {
		list = append(list, dev(string(rune('a'+i/26))+string(rune('a'+i%26)), "model=x", "numa="+string(rune('a'+i))))
	}
	c := claimOf("c", exactly("q", 14), exactly("r", 14))
	c = matching(c, driver+"/numa", "r")
	d := tableOf(sliceOf("n", "pool", list...), c).DemandOf(podOf("p", "c"))
	if got := d.Reject(nodeOf("n")); got != TimedOut {
		t.Errorf("%s", got)
	}
}

// An allocation says from where its devices can be used and carries the classes' configuration before the claim's, but not that of
// requests which got nothing.
func TestResult(t *testing.T) {
	config := func(text string) resourcev1.DeviceConfiguration {
		return resourcev1.DeviceConfiguration{Opaque: &resourcev1.OpaqueDeviceConfiguration{Driver: driver, Parameters: runtime.RawExtension{Raw: []byte(text)}}}
	}
	class := &resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: "class"}, Spec: resourcev1.DeviceClassSpec{Config: []resourcev1.DeviceClassConfiguration{{DeviceConfiguration: config("class")}}}}
	claim := claimOf("c", firstOf("r", "model=x", "model=y"), exactly("q", 1))
	claim.Spec.Devices.Config = []resourcev1.DeviceClaimConfiguration{
		{Requests: []string{"r/sub0"}, DeviceConfiguration: config("not this")}, {Requests: []string{"r/sub1"}, DeviceConfiguration: config("this")},
		{DeviceConfiguration: config("all")}, {Requests: []string{"r"}, DeviceConfiguration: config("whole request")},
		{Requests: []string{"r/sub1", "q"}, DeviceConfiguration: config("all by name")},
	}
	zone := sliceOf("", "pool", dev("a", "model=y"), dev("b"))
	zone.Spec.AllNodes = nil
	zone.Spec.NodeSelector = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
		{Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{"z"}},
	}}}}
	table := tableOf(class, zone, claim)
	d := table.DemandOf(podOf("p", "c"))
	if got := d.Reject(nodeOf("n", "zone=y")); got != CannotAllocate {
		t.Fatal(got)
	}
	if got := d.Reject(nodeOf("n", "zone=z")); got != "" {
		t.Fatal(got)
	}
	a := table.Assume(d, nodeOf("n", "zone=z"))[0].Allocation
	var got []string
	for _, c := range a.Devices.Config {
		got = append(got, string(c.Source)+" "+strings.Join(c.Requests, ",")+" "+string(c.Opaque.Parameters.Raw))
	}
	if want := "FromClass r/sub1 class;FromClass q class;FromClaim r/sub1 this;FromClaim  all;FromClaim r whole request;FromClaim  all by name"; strings.Join(got, ";") != want {
		t.Errorf("%s, want %s", strings.Join(got, ";"), want)
	}
	if s := a.NodeSelector; s == nil || s.NodeSelectorTerms[0].MatchExpressions[0].Key != "zone" {
		t.Errorf("node selector %v", s)
	}
	local := tableOf(sliceOf("n", "pool", dev("a")), claimOf("c", exactly("r", 1)))
	a = local.Assume(local.DemandOf(podOf("p", "c")), nodeOf("n"))[0].Allocation
	if f := a.NodeSelector.NodeSelectorTerms[0].MatchFields; len(f) != 1 || f[0].Key != "metadata.name" || f[0].Values[0] != "n" {
		t.Errorf("node selector %v", a.NodeSelector)
	}
}
