package probe

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"bareboat.dev/kubelet/pod"
)

// TestRunAppliesPeriodsAndThresholds shows when attempts are made and when verdicts are given, over simulated time.
func TestRunAppliesPeriodsAndThresholds(t *testing.T) {
	for name, c := range map[string]struct {
		spec    corev1.Probe
		results string // one letter per attempt: s, f, e(rror), r(efused)
		want    string // attempts and verdicts with their times in seconds
	}{
		"readiness":         {corev1.Probe{PeriodSeconds: 5, FailureThreshold: 2}, "sfsffs", "0 +0 5 10 15 20 -20 25 +25"},
		"initial delay":     {corev1.Probe{InitialDelaySeconds: 3, PeriodSeconds: 1, FailureThreshold: 1}, "fs", "3 -3 4 +4"},
		"success threshold": {corev1.Probe{PeriodSeconds: 1, SuccessThreshold: 3}, "ssfsss", "0 1 2 3 4 5 +5"},
		"errors count not":  {corev1.Probe{PeriodSeconds: 1, FailureThreshold: 2}, "fefe", "0 1 2 -2 3"},
		"not listening yet": {corev1.Probe{PeriodSeconds: 1, FailureThreshold: 1}, "rrrs", "0.14 +0.14"},
		"never listening":   {corev1.Probe{PeriodSeconds: 1, FailureThreshold: 2}, "rrrrrrrr", "0.62 1.62 -1.62 2.62"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if got := trace(&c.spec, c.results); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
			})
		})
	}
}

// trace runs a probe with given results and prints when what was told.
func trace(spec *corev1.Probe, results string) string {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	begin := time.Now()
	var out []string
	at := func() string { return fmt.Sprintf("%.3g", time.Since(begin).Seconds()) }
	Run(ctx, spec, begin, func(context.Context) Result {
		if results == "" {
			cancel()
			return Result{}
		}
		r := map[byte]Result{'s': {Outcome: Success}, 'f': {Outcome: Failure}, 'e': {Outcome: Errored},
			'r': {Outcome: Failure, NotListening: true}}[results[0]]
		results = results[1:]
		return r
	}, func(v pod.Verdict) {
		out = append(out, map[pod.Verdict]string{pod.Success: "+", pod.Failed: "-"}[v]+at())
	}, func(Result) { out = append(out, at()) })
	return strings.Join(out, " ")
}

// TestHeaders shows what a probe sends: all headers that it names, several of one name, too; its own only where it names none; and with an
// empty name of what it takes none at all.
func TestHeaders(t *testing.T) {
	for _, c := range []struct {
		headers []corev1.HTTPHeader
		want    string
	}{
		{nil, "a.example map[Accept:[*/*] User-Agent:[kube-probe/1.37]]"},
		{[]corev1.HTTPHeader{{Name: "x-a", Value: "1"}, {Name: "X-A", Value: "2"}}, "a.example map[Accept:[*/*] User-Agent:[kube-probe/1.37] X-A:[1 2]]"},
		{[]corev1.HTTPHeader{{Name: "host", Value: "b.example"}, {Name: "accept", Value: ""}, {Name: "user-agent", Value: "me"}}, "b.example map[User-Agent:[me]]"},
		{[]corev1.HTTPHeader{{Name: "User-Agent", Value: ""}}, "a.example map[Accept:[*/*] User-Agent:[]]"},
	} {
		r, err := HTTPRequest(t.Context(), &corev1.HTTPGetAction{Host: "a.example", Port: intstr.FromInt32(80), HTTPHeaders: c.headers}, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if got := fmt.Sprint(host, " ", r.Header); got != c.want {
			t.Errorf("%+v: %s, want %s", c.headers, got, c.want)
		}
	}
}

// TestRedirects shows that a redirect on the same host is followed, and that one elsewhere is a success to be told of.
func TestRedirects(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("/here", http.RedirectHandler("/fine", http.StatusFound))
	mux.Handle("/there", http.RedirectHandler("http://elsewhere.example/", http.StatusFound))
	mux.HandleFunc("/fine", func(http.ResponseWriter, *http.Request) {})
	server := httptest.NewServer(mux)
	defer server.Close()
	host, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/here":  "",
		"/there": "Probe terminated redirects, Response body: <a href=\"http://elsewhere.example/\">Found</a>.\n\n",
	} {
		spec := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.Parse(port)}}}
		if r := Probe(t.Context(), spec, Target{Host: host}); r.Outcome != Success || r.Warning != want {
			t.Errorf("%s: %+v", path, r)
		}
	}
}

// TestPortByName shows how probes find their port.
func TestPortByName(t *testing.T) {
	c := &corev1.Container{Name: "c", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}
	for in, want := range map[string]string{"http": "8080", "9": "9", "no": `couldn't find port: "no" in container c`, "0": "invalid port number: 0"} {
		n, err := Port(intstr.FromString(in), c)
		got := fmt.Sprint(n)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}
