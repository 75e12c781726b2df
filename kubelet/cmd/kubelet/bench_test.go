package main

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// BenchmarkPodStart measures from the creation of a bound pod to Running in the API, image present.
func BenchmarkPodStart(b *testing.B) {
	h := newHost(b)
	h.load()
	i := 0
	for b.Loop() {
		name := fmt.Sprint("p", i)
		i++
		h.create(name, `containers: [{name: app, command: [sleep, "1000"]}]`)
		h.await(name, "Running", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
	}
}

// BenchmarkBurst measures 100 pods created at once: until the last is Running.
func BenchmarkBurst(b *testing.B) {
	h := newHost(b)
	h.load()
	round := 0
	for b.Loop() {
		for i := range 100 {
			h.create(fmt.Sprintf("r%d-p%d", round, i), `containers: [{name: app, command: [sleep, "1000"]}]`)
		}
		for i := range 100 {
			h.await(fmt.Sprintf("r%d-p%d", round, i), "Running", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
		}
		b.StopTimer()
		for i := range 100 {
			h.remove(fmt.Sprintf("r%d-p%d", round, i), 0)
		}
		round++
		b.StartTimer()
	}
}

// BenchmarkExitToStatus measures from a container's end to its being told in the API.
func BenchmarkExitToStatus(b *testing.B) {
	h := newHost(b)
	h.load()
	i := 0
	var worst time.Duration
	for b.Loop() {
		b.StopTimer()
		name := fmt.Sprint("p", i)
		i++
		h.create(name, `{restartPolicy: Never, containers: [{name: app, command: [sleep, "1000"]}]}`)
		pid := h.pid(h.await(name, "Running", running))
		b.StartTimer()
		begin := time.Now()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			b.Fatal(err)
		}
		h.await(name, "Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
		worst = max(worst, time.Since(begin))
	}
	b.ReportMetric(float64(worst.Microseconds())/1000, "worst-ms")
}

// BenchmarkIdle measures the CPU that a node's idle pods cost: of this process, in which the model API server runs, too.
func BenchmarkIdle(b *testing.B) {
	const pods, round = 100, 10 * time.Second
	h := newHost(b)
	h.load()
	for i := range pods {
		h.create(fmt.Sprint("p", i), `containers: [{name: app, command: [sleep, "1000"]}]`)
	}
	for i := range pods {
		h.await(fmt.Sprint("p", i), "Running", running)
	}
	var used time.Duration
	for b.Loop() {
		begin := cpuTime(b)
		time.Sleep(round)
		used += cpuTime(b) - begin
	}
	percent := 100 * used.Seconds() / (float64(b.N) * round.Seconds())
	b.ReportMetric(percent, "%-of-a-core")
	b.ReportMetric(percent*500/pods, "%-at-500-pods")
}

// cpuTime is what this process has used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
