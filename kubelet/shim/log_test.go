package shim_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"bareboat.dev/kubelet/shim"
	"bareboat.dev/kubelet/shim/shimtest"
)

// Shows that rotating a log while a container writes as fast as it can loses no line, doubles none, and cuts none in two.
func TestRotationLosesNothing(t *testing.T) {
	const lines, rotations = 200_000, 20
	pod := shimtest.Launch(t, shim.PodConfig{})
	c := shimtest.Container(t, fmt.Sprintf("exec seq %d", lines))
	if err := pod.Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if _, err := pod.Start(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	var files []string
	for i := range rotations {
		rotated := fmt.Sprintf("%s.%d", c.LogPath, i)
		if err := os.Rename(c.LogPath, rotated); err != nil {
			t.Fatal(err)
		}
		files = append(files, rotated)
		if err := pod.ReopenLog(t.Context(), c.ID); err != nil {
			t.Fatal(err)
		}
	}
	shimtest.AwaitExit(t, pod, c.ID)
	next := 1
	for _, f := range append(files, c.LogPath) {
		part := c
		part.LogPath = f
		for line := range strings.Lines(shimtest.Log(t, part)) {
			if line != fmt.Sprintln(next) {
				t.Fatalf("%s: have line %q, want %d", f, line, next)
			}
			next++
		}
	}
	if next != lines+1 {
		t.Errorf("%d lines, want %d", next-1, lines)
	}
}

// Shows that both streams are logged, that output right before the end is not lost, and that binary output does no harm.
func TestLogStreams(t *testing.T) {
	pod := shimtest.Launch(t, shim.PodConfig{})
	c := shimtest.Container(t, "echo out; echo err >&2; head -c 100000 /dev/zero; printf end")
	finishes(t, pod, c)
	data, err := os.ReadFile(c.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(data), "\x00"); n != 100000 {
		t.Errorf("%d zero bytes", n)
	}
	for _, want := range []string{" stdout F out\n", " stderr F err\n", "end\n"} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%q is not in the log", want)
		}
	}
}
