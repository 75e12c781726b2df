package main

import (
	"fmt"
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
		h.create(name, `{restartPolicy: Never, containers: [{name: app, command: [sleep, "0.2"]}]}`)
		p := h.await(name, "Failed or Succeeded", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
		took := time.Since(p.Status.ContainerStatuses[0].State.Terminated.FinishedAt.Time)
		worst = max(worst, took)
		b.StartTimer()
	}
	b.ReportMetric(float64(worst.Milliseconds()), "worst-ms")
}
