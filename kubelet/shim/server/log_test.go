package server

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Shows the CRI log format: a line per line, long ones in parts, the last one marked when its newline never came.
func TestFormat(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 60_000_000, time.FixedZone("", 3600))
	const stamp = "2026-01-02T02:04:05.060000000Z stdout "
	long := strings.Repeat("x", maxLine)
	for name, c := range map[string]struct {
		reads []string
		want  string
	}{
		"lines":            {[]string{"a\nb\n"}, stamp + "F a\n" + stamp + "F b\n"},
		"empty lines":      {[]string{"\n\n"}, stamp + "F \n" + stamp + "F \n"},
		"a line in pieces": {[]string{"a", "b", "c\nd"}, stamp + "F abc\n" + stamp + "P d\n"},
		"exactly full":     {[]string{long + "\n"}, stamp + "F " + long + "\n"},
		"too long":         {[]string{long + "yz\n"}, stamp + "P " + long + "\n" + stamp + "F yz\n"},
		"full, no newline": {[]string{long}, stamp + "P " + long + "\n"},
		"nothing":          {nil, ""},
	} {
		f := lineFormatter{stream: "stdout"}
		var out []byte
		for _, r := range c.reads {
			out = f.format(out, now, []byte(r))
		}
		out = f.flush(out, now)
		if string(out) != c.want {
			t.Errorf("%s: have %.200q, want %.200q", name, out, c.want)
		}
	}
}

// Shows that however output is cut into reads, the log holds the same bytes, and every line of it is well formed and not too long.
func TestFormatKeepsEveryByte(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	wellFormed := regexp.MustCompile(`^\S+Z stderr [FP] `)
	for range 200 {
		var input strings.Builder
		for range rng.IntN(20) {
			input.WriteString(strings.Repeat("ab", rng.IntN(maxLine)))
			input.WriteString(strings.Repeat("\n", rng.IntN(3)))
		}
		f := lineFormatter{stream: "stderr"}
		var out []byte
		for rest := input.String(); rest != ""; {
			n := min(len(rest), 1+rng.IntN(2*maxLine))
			out = f.format(out, time.Now(), []byte(rest[:n]))
			if len(f.pending) >= maxLine || strings.Contains(string(f.pending), "\n") {
				t.Fatalf("pending is %d bytes", len(f.pending))
			}
			rest = rest[n:]
		}
		out = f.flush(out, time.Now())
		var back strings.Builder
		for line := range strings.Lines(string(out)) {
			if !wellFormed.MatchString(line) || len(line) > maxLine+64 {
				t.Fatalf("line %.80q of %d bytes", line, len(line))
			}
			parts := strings.SplitN(line, " ", 4)
			content := parts[3]
			if parts[2] == "P" {
				content = strings.TrimSuffix(content, "\n")
			}
			back.WriteString(content)
		}
		if back.String() != input.String() {
			t.Fatalf("%d bytes became %d", input.Len(), back.Len())
		}
	}
}

// Shows that a log that could not be written says so itself when it can again, on a line of its own.
func TestLostOutputIsReported(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	good := l.file
	l.file = full
	l.append([]byte("lost\n"))
	l.append([]byte("lost too\n"))
	l.file = good
	full.Close()
	l.append([]byte("kept\n"))
	l.append([]byte("kept too\n"))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`^\S+Z stderr F bareboat: about 14 bytes of output were lost here: [^\n]+\nkept\nkept too\n$`)
	if !want.Match(data) {
		t.Errorf("log:\n%s", data)
	}
}

// BenchmarkFormat measures how fast lines of a hundred bytes are turned into log lines.
func BenchmarkFormat(b *testing.B) {
	data := []byte(strings.Repeat(strings.Repeat("x", 99)+"\n", readSize/100))
	f := lineFormatter{stream: "stdout"}
	var out []byte
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		out = f.format(out[:0], time.Now(), data)
	}
}
