package pod

import (
	"fmt"
	"math/rand"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestLifeHoldsItsInvariants shows that, over thousands of random pods with random failures, exits, probe verdicts, shim
// deaths, kubelet restarts and deletions, no container ever has two live instances, phases never go back, regular
// containers wait for init containers, and termination always ends.
func TestLifeHoldsItsInvariants(t *testing.T) {
	for seed := int64(0); seed < 1000; seed++ {
		r := rand.New(rand.NewSource(seed))
		l := &life{model: newModel(randomPod(r)), r: r, phase: corev1.PodPending}
		if err := l.live(60); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := l.die(); err != nil {
			t.Fatalf("seed %d, after deletion: %v", seed, err)
		}
	}
}

// life is a pod that has random things happen to it.
type life struct {
	*model
	r     *rand.Rand
	phase corev1.PodPhase
}

func randomPod(r *rand.Rand) *corev1.Pod {
	p := &corev1.Pod{}
	p.Name, p.Namespace = "p", "ns"
	p.Spec.RestartPolicy = []corev1.RestartPolicy{"Always", "OnFailure", "Never"}[r.Intn(3)]
	always := corev1.ContainerRestartPolicyAlways
	make := func(name string, init bool) corev1.Container {
		c := corev1.Container{Name: name, Image: "img"}
		if init && r.Intn(2) == 0 {
			c.RestartPolicy = &always
		}
		if !init || c.RestartPolicy != nil {
			probe := &corev1.Probe{}
			c.StartupProbe = []*corev1.Probe{nil, probe}[r.Intn(2)]
			c.LivenessProbe = []*corev1.Probe{nil, probe}[r.Intn(2)]
			hook := &corev1.LifecycleHandler{}
			c.Lifecycle = &corev1.Lifecycle{PostStart: []*corev1.LifecycleHandler{nil, hook}[r.Intn(2)], PreStop: []*corev1.LifecycleHandler{nil, hook}[r.Intn(2)]}
		}
		return c
	}
	for i := range r.Intn(4) {
		p.Spec.InitContainers = append(p.Spec.InitContainers, make(fmt.Sprint("i", i), true))
	}
	if r.Intn(4) == 0 && len(p.Spec.InitContainers) > 0 {
		p.Spec.InitContainers[0].RestartPolicyRules = restartAllOn(1)
	}
	for i := range 1 + r.Intn(3) {
		p.Spec.Containers = append(p.Spec.Containers, make(fmt.Sprint("c", i), false))
		if r.Intn(4) == 0 {
			p.Spec.Containers[i].RestartPolicyRules = restartAllOn(1)
		}
	}
	return p
}

// live lets n things happen.
func (l *life) live(n int) error {
	for range n {
		if err := l.check(l.step()); err != nil {
			return err
		}
		l.happen()
	}
	return nil
}

// happen lets one random thing happen.
func (l *life) happen() {
	switch k := l.r.Intn(20); {
	case k < 10 && len(l.inFlight) > 0:
		l.finishOne(l.r.Intn(6) == 0)
	case k < 13 && len(l.seen.Containers) > 0:
		l.exit(l.seen.Containers[l.r.Intn(len(l.seen.Containers))].ID, l.r.Intn(2))
	case k < 16 && len(l.probes) > 0:
		p := l.probes[l.r.Intn(len(l.probes))]
		v := []Verdict{Success, Success, Failed}[l.r.Intn(3)]
		l.edit(p.ID, func(c *Container) {
			switch p.Kind {
			case Startup:
				c.Startup = v
			case Liveness:
				c.Liveness = v
			}
		})
	case k == 16:
		l.loseSandbox()
	case k == 17:
		l.memory = Memory{} // the kubelet restarts; actions in flight are ended first, as it does
		for len(l.inFlight) > 0 {
			l.finishOne(true)
		}
	default:
		l.sleep()
	}
}

// sleep passes time until the pod wants to be woken, or a little.
func (l *life) sleep() {
	if l.wake.After(l.now) && l.r.Intn(2) == 0 {
		l.now = l.wake
		return
	}
	l.now = l.now.Add(time.Duration(l.r.Intn(5000)) * time.Millisecond)
}

func (l *life) finishOne(fail bool) {
	all := l.flying()
	a := all[l.r.Intn(len(all))]
	var f *Failure
	if fail {
		f = &Failure{Reason: "ErrImagePull", Message: "no"}
		if a.Op == StartContainer && l.r.Intn(2) == 0 {
			f.Reason = startError
		}
		if a.Op == SignalKill || a.Op == TeardownSandbox || a.Op == UnmountVolumes || a.Op == RemoveContainer {
			f = nil
		}
	}
	l.finish(a, f)
}

// die deletes the pod and lets only time and actions happen; it must be gone within a bounded number of steps.
func (l *life) die() error {
	l.remove(30)
	for range 400 {
		if err := l.check(l.step()); err != nil {
			return err
		}
		if l.finished {
			return nil
		}
		if len(l.inFlight) > 0 {
			l.finishOne(false)
			continue
		}
		if !l.wake.After(l.now) {
			return fmt.Errorf("nothing in flight, nothing to wake for:\n%s", describe(l.step(), l.now))
		}
		l.now = l.wake
	}
	return fmt.Errorf("did not end")
}

func (l *life) check(p Plan) error {
	live := map[string]int{}
	for _, c := range l.seen.Containers {
		if c.State != Exited {
			live[c.Name]++
		}
	}
	for k := range l.seen.InFlight {
		if k.Op == StartContainer {
			live[k.Subject]++
		}
	}
	for name, n := range live {
		if n > 1 {
			return fmt.Errorf("%d live instances of %s", n, name)
		}
	}
	if l.phase != p.Status.Phase {
		if terminalPhase(l.phase) || l.phase == corev1.PodRunning && p.Status.Phase == corev1.PodPending {
			return fmt.Errorf("phase went from %s to %s", l.phase, p.Status.Phase)
		}
		l.phase = p.Status.Phase
	}
	for _, a := range p.Actions {
		if a.Op == StartContainer && a.Container[0] == 'c' && !l.initialized() {
			return fmt.Errorf("%s before the init containers are done", a)
		}
		if a.Op == StartContainer && (terminalPhase(p.Status.Phase) || p.Terminating) {
			return fmt.Errorf("%s in a pod that ends", a)
		}
	}
	return nil
}

// initialized is the rule, told a second time and more simply: in this sandbox each regular init container has an
// instance that exited with 0 and each sidecar has had an instance, or a regular container has been there before.
func (l *life) initialized() bool {
	in := func(name string, ok func(Container) bool) bool {
		for _, c := range l.seen.Containers {
			if c.Name == name && c.Sandbox == l.seen.Sandbox.ID && ok(c) {
				return true
			}
		}
		return false
	}
	for _, c := range l.pod.Spec.Containers {
		if in(c.Name, func(Container) bool { return true }) {
			return true
		}
	}
	for _, c := range l.pod.Spec.InitContainers {
		sidecar := c.RestartPolicy != nil
		if !in(c.Name, func(i Container) bool { return sidecar || i.State == Exited && i.ExitCode == 0 }) {
			return false
		}
	}
	return true
}

// restartAllOn is a rule that an exit with that code restarts all containers.
func restartAllOn(code int32) []corev1.ContainerRestartRule {
	return []corev1.ContainerRestartRule{{
		Action:    corev1.ContainerRestartRuleActionRestartAllContainers,
		ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{code}},
	}}
}
