package pod

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"
)

// TestStories plays the scripts of testdata: each tells the life of one pod, step by step, and what was decided.
//
// A script is a list of paragraphs: commands, then "----", then what the last of them printed. UPDATE=1 rewrites the
// expectations.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts in testdata", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) { playFile(t, f) })
	}
}

func playFile(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	var m *model
	for _, paragraph := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
		commands, want, ok := strings.Cut(paragraph+"\n", "----\n")
		got := ""
		if strings.HasPrefix(commands, "pod\n") {
			m = newModel(parsePod(t, strings.TrimPrefix(commands, "pod\n")))
			got = describe(m.step(), m.now)
		} else {
			for _, line := range strings.Split(strings.TrimSpace(commands), "\n") {
				if !strings.HasPrefix(line, "#") {
					play(t, m, strings.Fields(line))
				}
			}
			if m != nil && ok {
				got = describe(m.step(), m.now)
			}
		}
		if ok && got != want && os.Getenv("UPDATE") == "" {
			t.Fatalf("%s\nafter\n%s\ngot\n%s\nwant\n%s", file, commands, got, want)
		}
		if ok {
			out = append(out, commands+"----\n"+got)
		} else {
			out = append(out, commands)
		}
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(strings.Join(out, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func parsePod(t *testing.T, text string) *corev1.Pod {
	p := &corev1.Pod{}
	p.Name, p.Namespace, p.UID = "web", "default", "1234"
	if err := yaml.UnmarshalStrict([]byte(text), &p.Spec); err != nil {
		t.Fatal(err)
	}
	return p
}

// play runs one command of a script.
func play(t *testing.T, m *model, words []string) {
	t.Helper()
	switch words[0] {
	case "done": // done OP [CONTAINER]…: the action ends well
		m.finish(m.pick(t, words[1:]), nil)
	case "fail": // fail OP [CONTAINER] REASON MESSAGE…
		a := m.pick(t, words[1:])
		rest := words[2:]
		if a.Container != "" {
			rest = words[3:]
		}
		m.finish(a, &Failure{Reason: rest[0], Message: strings.Join(rest[1:], " ")})
	case "all": // everything in flight ends well
		for _, a := range m.flying() {
			m.finish(a, nil)
		}
	case "settle": // everything ends well until nothing is left to do now
		for i := 0; i < 20; i++ {
			for _, a := range m.flying() {
				m.finish(a, nil)
			}
			if len(m.step().Actions) == 0 {
				break
			}
		}
	case "exit": // exit CONTAINER CODE
		code, _ := strconv.Atoi(words[2])
		m.exit(m.live(words[1]), code)
	case "oom": // oom CONTAINER
		id := m.live(words[1])
		m.exit(id, 137)
		m.edit(id, func(c *Container) { c.OOMKilled = true })
	case "probe": // probe CONTAINER KIND success|failed
		m.verdict(words[1], words[2], words[3])
	case "advance": // advance DURATION
		d, err := time.ParseDuration(words[1])
		if err != nil {
			t.Fatal(err)
		}
		m.now = m.now.Add(d)
	case "delete": // delete GRACE
		g, _ := strconv.ParseInt(words[1], 10, 64)
		m.remove(g)
	case "image": // image CONTAINER NEW
		m.pod = m.pod.DeepCopy()
		for i := range m.pod.Spec.Containers {
			if m.pod.Spec.Containers[i].Name == words[1] {
				m.pod.Spec.Containers[i].Image = words[2]
			}
		}
	case "cpu": // cpu CONTAINER REQUEST: the pod is resized
		m.pod = m.pod.DeepCopy()
		m.pod.Generation++
		for i := range m.pod.Spec.Containers {
			if c := &m.pod.Spec.Containers[i]; c.Name == words[1] {
				c.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(words[2])}
			}
		}
	case "forget": // forget: what was deferred may be tried again
		m.seen.Resized = nil
	case "evict":
		m.stop = &Stop{Reason: "Evicted", Message: strings.Join(words[1:], " ")}
	case "gone":
		m.gone = true
	case "lose": // the shim dies
		m.loseSandbox()
	case "reboot": // nothing survives but what the API was told
		m.seen = Observed{Images: map[string]Image{}, Refused: map[string]Failure{}, InFlight: map[Key]bool{}}
		m.inFlight, m.memory = map[Key]Action{}, Memory{}
	case "restart": // the kubelet restarts; what it remembered is lost
		m.memory, m.inFlight, m.seen.InFlight = Memory{}, map[Key]Action{}, map[Key]bool{}
		for _, c := range m.seen.Containers {
			m.edit(c.ID, func(c *Container) { c.Startup, c.Liveness, c.Readiness = Unknown, Unknown, Unknown })
		}
	case "step":
	default:
		t.Fatalf("no such command: %v", words)
	}
}

func (m *model) verdict(container, kind, verdict string) {
	v := map[string]Verdict{"success": Success, "failed": Failed}[verdict]
	m.edit(m.live(container), func(c *Container) {
		switch kind {
		case "startup":
			c.Startup = v
		case "liveness":
			c.Liveness = v
		case "readiness":
			c.Readiness = v
		}
	})
}

// pick finds an action in flight by its op and, where it has one, its container.
func (m *model) pick(t *testing.T, words []string) Action {
	t.Helper()
	for _, a := range m.flying() {
		if string(a.Op) == words[0] && (a.Container == "" || len(words) > 1 && a.Container == words[1]) {
			return a
		}
	}
	t.Fatal(fmt.Sprintf("not in flight: %v", words))
	return Action{}
}
