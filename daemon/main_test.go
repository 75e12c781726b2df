package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"bareboat.dev/daemon"
)

// settings are a daemon's for these tests.
type settings struct {
	Name  string          `json:"name,omitempty"`
	Hosts []string        `json:"hosts,omitempty"`
	Wait  daemon.Duration `json:"wait,omitempty"`
	Inner struct {
		Depth int `json:"depth"`
	} `json:"inner,omitempty"`
}

func (s *settings) flags(fs *pflag.FlagSet) {
	fs.StringVar(&s.Name, "name", "nobody", "")
	fs.StringSliceVar(&s.Hosts, "hosts", s.Hosts, "")
	fs.Var(&s.Wait, "wait", "")
	fs.IntVar(&s.Inner.Depth, "inner-depth", s.Inner.Depth, "")
}

// execute runs a daemon and returns its exit code, what it was set to, and what it printed.
func execute(t *testing.T, run func(context.Context, *daemon.Env) error, args ...string) (code int, cfg *settings, stdout, stderr string) {
	t.Helper()
	cfg = &settings{}
	cfg.Inner.Depth = 3
	var out, errOut bytes.Buffer
	if run == nil {
		run = func(context.Context, *daemon.Env) error { return nil }
	}
	code = daemon.Execute(t.Context(), daemon.Spec{
		Name: "tester", Description: "is tested", Config: cfg, Flags: cfg.flags, Run: run,
		Validate: func() error {
			if cfg.Inner.Depth < 0 {
				return errors.New("--inner-depth must not be negative: give 0 or more")
			}
			return nil
		},
	}, args, &out, &errOut)
	return code, cfg, out.String(), errOut.String()
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const head = "apiVersion: bareboat.dev/v1\nkind: TesterConfiguration\n"

// Shows that settings come from defaults, then the file, then flags, lists included.
func TestPrecedence(t *testing.T) {
	path := file(t, head+"name: from-file\nhosts: [a, b]\nwait: 5s\n")
	for _, tc := range []struct{ args, want string }{
		{"", "nobody [] 0s 3"},
		{"--config " + path, "from-file [a b] 5s 3"},
		{"--config " + path + " --name flag --hosts c,d --hosts e --inner-depth 0", "flag [c d e] 5s 0"},
		{"--wait 1m --config " + path, "from-file [a b] 1m0s 3"},
		{"--inner_depth=7", "nobody [] 0s 7"},
	} {
		code, cfg, _, stderr := execute(t, nil, strings.Fields(tc.args)...)
		if got := fmt.Sprint(cfg.Name, " ", cfg.Hosts, " ", cfg.Wait, " ", cfg.Inner.Depth); code != 0 || got != tc.want {
			t.Errorf("%s: %s, exit %d, %s; want %s", tc.args, got, code, stderr, tc.want)
		}
	}
}

// Shows that every wrong call exits with 2 and one sentence that names the flag or field.
func TestUsageErrors(t *testing.T) {
	for content, want := range map[string]string{
		head + "nmae: x\n":                            `unknown field "nmae"`,
		head + "inner: {deep: 1}\n":                   `unknown field "inner.deep"`,
		head + "name: a\nname: b\n":                   `key "name" already set`,
		head + "wait: 5\n":                            `write it as "30s"`,
		head + "hosts: 7\n":                           "hosts",
		"apiVersion: v1\nkind: TesterConfiguration\n": `apiVersion is "v1", want "bareboat.dev/v1"`,
		"apiVersion: bareboat.dev/v1\nkind: Other\n":  `kind is "Other", want "TesterConfiguration"`,
		"name: x\n":                                   "apiVersion is missing",
		"[]":                                          "want a mapping",
	} {
		code, _, _, stderr := execute(t, nil, "--config", file(t, content))
		if code != 2 || !strings.Contains(stderr, want) {
			t.Errorf("file %q: exit %d, %q; want …%s…", content, code, stderr, want)
		}
	}
	for args, want := range map[string]string{
		"--nope":              "unknown flag: --nope",
		"--inner-depth x":     "--inner-depth",
		"--inner-depth=-1":    "give 0 or more",
		"extra":               `unexpected argument "extra"`,
		"--log-level loud":    `--log-level "loud"`,
		"--log-format xml":    `--log-format "xml"`,
		"--config /none/such": "--config: stat /none/such: no such file or directory",
		"--wait 5":            "is not a duration",
	} {
		code, _, _, stderr := execute(t, nil, strings.Fields(args)...)
		if code != 2 || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit %d, %q; want one line with …%s…", args, code, stderr, want)
		}
	}
}

// Shows the exit codes of a daemon's life: asked to stop, failed, only validated, only asked for help or version.
func TestExitCodes(t *testing.T) {
	if code, _, _, stderr := execute(t, func(context.Context, *daemon.Env) error { return errors.New("port 1 is taken") }); code != 1 || !strings.HasSuffix(stderr, "tester: port 1 is taken\n") {
		t.Errorf("failure: exit %d, %q", code, stderr)
	}
	ran := false
	run := func(context.Context, *daemon.Env) error { ran = true; return nil }
	if code, _, stdout, _ := execute(t, run, "--validate"); code != 0 || ran || !strings.Contains(stdout, "valid") {
		t.Errorf("--validate: exit %d, ran %v, %q", code, ran, stdout)
	}
	if code, _, stdout, _ := execute(t, run, "--version"); code != 0 || ran || !strings.HasPrefix(stdout, "bareboat tester ") {
		t.Errorf("--version: exit %d, ran %v, %q", code, ran, stdout)
	}
	if code, _, stdout, _ := execute(t, run, "--help"); code != 0 || ran || !strings.Contains(stdout, "--log-format") {
		t.Errorf("--help: exit %d, ran %v, %q", code, ran, stdout)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	code := daemon.Execute(ctx, daemon.Spec{Name: "tester", Run: func(ctx context.Context, _ *daemon.Env) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}}, nil, &out, &out)
	if code != 0 {
		t.Errorf("stopped: exit %d, %s", code, out.String())
	}
}

// Shows what systemd is told: readiness, life while the liveness checks pass, and the end.
func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "20000")
	next := func() string {
		buf := make([]byte, 1024)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	code, _, _, stderr := execute(t, func(ctx context.Context, env *daemon.Env) error {
		for range 2 {
			if got := next(); got != "WATCHDOG=1" {
				t.Errorf("told %q, want WATCHDOG=1", got)
			}
		}
		env.Ready("serving")
		for got := next(); got != "READY=1\nSTATUS=serving"; got = next() {
			if got != "WATCHDOG=1" {
				t.Errorf("told %q", got)
			}
		}
		return nil
	})
	if code != 0 {
		t.Fatal(stderr)
	}
	for got := next(); got != "STOPPING=1"; got = next() {
		if got != "WATCHDOG=1" {
			t.Errorf("told %q", got)
		}
	}
}
