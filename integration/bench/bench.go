// Package bench measures Bareboat beside yardsticks that exist on any machine. Machines are shared and noisy, so that an absolute time
// means little: each measurement runs its subject and its yardstick alternately in one run and reports their ratio with both figures.
// Nothing here is a test: there is no verdict but the reader's.
package bench

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Row is one line of the table.
type Row struct {
	// Path is what was measured, Subject its figure, Yardstick what it was held against with that one's figure.
	Path, Subject, Yardstick, Ratio string
	// Aim is what the design asks for.
	Aim string
}

// Measurement produces rows.
type Measurement struct {
	// Name selects the measurement on the command line.
	Name string
	Run  func(*Env) ([]Row, error)
}

// Env is what a measurement gets: a log for progress and the clean-ups that run when it ends.
type Env struct {
	Log io.Writer
	// Profiles is the folder that CPU profiles of servers under load go to; empty for none.
	Profiles string
	cleanups []func()
}

// failure is what Fatal panics with; it ends the measurement, not the program.
type failure struct{ err error }

// Helper implements host.T.
func (e *Env) Helper() {}

// Fatal ends the measurement.
func (e *Env) Fatal(args ...any) { panic(failure{fmt.Errorf("%s", fmt.Sprint(args...))}) }

// Fatalf ends the measurement.
func (e *Env) Fatalf(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

// Cleanup runs f when the measurement has ended, last one first.
func (e *Env) Cleanup(f func()) { e.cleanups = append(e.cleanups, f) }

// run runs one measurement with its clean-ups.
func (m Measurement) run(log io.Writer, profiles string) (rows []Row, err error) {
	e := &Env{Log: log, Profiles: profiles}
	defer func() {
		for i := len(e.cleanups) - 1; i >= 0; i-- {
			e.cleanups[i]()
		}
		if r := recover(); r != nil {
			f, ok := r.(failure)
			if !ok {
				panic(r)
			}
			err = f.err
		}
	}()
	return m.Run(e)
}

// All returns every measurement, in the order of the table.
func All() []Measurement {
	return []Measurement{
		{"scheduler", goBench("scheduler", "./plan/...", "decisions/s", "≥ 20,000/s at 5,000 nodes; at 50,000 ≥ 0.8 of it")},
		{"api", apiWrites},
		{"list", listPods},
		{"watch", watchFanOut},
		{"bound", createToBound},
		{"chart", chart},
		{"pods", podStart},
		{"idle", idle},
		{"proxy", goBench("proxy", "./...", "", "10,000 services ≤ 0.5 s; one change ≤ 2 ms")},
	}
}

// Run measures what names select, all of it if there are none, and writes the table to out. If profiles is the name of a folder,
// CPU profiles of the servers go there.
func Run(out, log io.Writer, profiles string, names []string) error {
	var rows []Row
	for _, m := range All() {
		if len(names) > 0 && !slices.Contains(names, m.Name) {
			continue
		}
		fmt.Fprintf(log, "measuring %s …\n", m.Name)
		start := time.Now()
		found, err := m.run(log, profiles)
		if err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
		for _, r := range found {
			fmt.Fprintf(log, "  %s: %s (%s; ratio %s)\n", r.Path, r.Subject, r.Yardstick, r.Ratio)
		}
		fmt.Fprintf(log, "  took %s\n", time.Since(start).Round(time.Second))
		rows = append(rows, found...)
	}
	return write(out, rows)
}

func write(out io.Writer, rows []Row) error {
	var b strings.Builder
	b.WriteString("# Benchmarks\n\nWritten by `make bench`. Each line's subject and yardstick ran alternately in one run on the same CPUs; the ratio is what counts.\n\n")
	fmt.Fprintf(&b, "- machine: %s, %d CPUs, %s\n- commit: %s\n- date: %s\n", cpu(), runtime.NumCPU(), strings.TrimSpace(run("uname", "-sr")), strings.TrimSpace(run("git", "rev-parse", "--short", "HEAD")), time.Now().UTC().Format(time.DateOnly))
	b.WriteString("- durable: SQLite with `synchronous=FULL`, etcd with fsync; every write is on disk when it is answered\n- load and servers share the CPUs\n\n")
	b.WriteString("| path | measured | yardstick | ratio | aim |\n|---|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", r.Path, r.Subject, dash(r.Yardstick), dash(r.Ratio), dash(r.Aim))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func dash(s string) string { return cmp.Or(s, "–") }

func run(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return "unknown"
	}
	return string(out)
}

func cpu() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// percentile of durations; p from 0 to 1.
func percentile(d []time.Duration, p float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return s[min(len(s)-1, int(p*float64(len(s))))]
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }

func perSecond(n int, d time.Duration) float64 { return float64(n) / d.Seconds() }
