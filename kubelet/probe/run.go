package probe

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/pod"
)

// Outcome is how one attempt ended.
type Outcome int

const (
	// Failure: the container is not well.
	Failure Outcome = iota
	// Success: it is.
	Success
	// Errored: the attempt itself could not be made; it counts for nothing.
	Errored
)

// Result is one attempt.
type Result struct {
	Outcome Outcome
	// Message says what was seen.
	Message string
	// NotListening says that the connection was refused: the program does not listen yet, or no longer.
	NotListening bool
	// Warning, if not empty, is what to know of a success that may be none.
	Warning string
}

// The API's defaults, for probes from sources that do not apply them.
const (
	defaultPeriod    = 10
	defaultTimeout   = 1
	defaultFailures  = 3
	defaultSuccesses = 1
)

func orDefault(v, otherwise int32) int32 {
	if v <= 0 {
		return otherwise
	}
	return v
}

// Counter applies a probe's thresholds. It is pure.
type Counter struct {
	last  Outcome
	run   int32
	begun bool
}

// Count takes a result in and returns the verdict, if the thresholds give one now.
func (c *Counter) Count(spec *corev1.Probe, o Outcome) (pod.Verdict, bool) {
	if o == Errored {
		return pod.Unknown, false
	}
	if !c.begun || o != c.last {
		c.last, c.run, c.begun = o, 0, true
	}
	c.run++
	switch {
	case o == Failure && c.run >= orDefault(spec.FailureThreshold, defaultFailures):
		return pod.Failed, true
	case o == Success && c.run >= orDefault(spec.SuccessThreshold, defaultSuccesses):
		return pod.Success, true
	}
	return pod.Unknown, false
}

// eagerPause is the first pause between attempts to a program that does not listen yet; it doubles. A program that comes up
// within milliseconds is then seen within milliseconds, not a period later.
const eagerPause = 20 * time.Millisecond

// Run attempts the probe every period, from its initial delay after started on, until ctx ends. verdict is called when the
// thresholds give a verdict that differs from the last; observe with every result.
//
// As long as nobody listens, attempts of the first period are repeated at short intervals and count for nothing: the
// program has not seen them either. What the API says of failures, their number and their times, is not touched by that.
func Run(ctx context.Context, spec *corev1.Probe, started time.Time, attempt func(context.Context) Result, verdict func(pod.Verdict), observe func(Result)) {
	period := time.Duration(orDefault(spec.PeriodSeconds, defaultPeriod)) * time.Second
	timeout := time.Duration(orDefault(spec.TimeoutSeconds, defaultTimeout)) * time.Second
	first := time.Duration(spec.InitialDelaySeconds)*time.Second - time.Since(started)
	timer := time.NewTimer(max(first, 0))
	defer timer.Stop()
	var counter Counter
	last := pod.Unknown
	eager, pause := time.Now().Add(max(first, 0)+period), eagerPause
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		begin := time.Now()
		r := once(ctx, timeout, attempt)
		if ctx.Err() != nil {
			return
		}
		if r.NotListening && begin.Add(pause).Before(eager) {
			timer.Reset(pause)
			pause *= 2
			continue
		}
		eager = time.Time{}
		observe(r)
		if v, ok := counter.Count(spec, r.Outcome); ok && v != last {
			last = v
			verdict(v)
		}
		timer.Reset(max(period-time.Since(begin), 0))
	}
}

func once(ctx context.Context, timeout time.Duration, attempt func(context.Context) Result) Result {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return attempt(ctx)
}
