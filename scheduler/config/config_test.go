package config_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bareboat.dev/daemon"
	"bareboat.dev/scheduler/config"
)

// execute runs a daemon that only reads its settings.
func execute(t *testing.T, args ...string) (*config.Config, int, string) {
	t.Helper()
	cfg := config.Default()
	var out bytes.Buffer
	code := daemon.Execute(t.Context(), daemon.Spec{
		Name: "scheduler", Config: cfg, Flags: cfg.Flags, Validate: cfg.Validate,
		Run: func(context.Context, *daemon.Env) error { return nil },
	}, args, &out, &out)
	return cfg, code, out.String()
}

// Shows the settings that a file and flags make together, and where that serves.
func TestSettings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "scheduler.yaml")
	content := "apiVersion: bareboat.dev/v1\nkind: SchedulerConfiguration\nkubeconfig: /k\nsecurePort: 1234\nleaderElection: {leaderElect: false, leaseDuration: 9s}\n"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, code, out := execute(t, "--config", path, "--scheduler-name", "mine", "--tls-cert-file", "c", "--tls-private-key-file", "k")
	le := cfg.LeaderElection
	if code != 0 || cfg.Kubeconfig != "/k" || cfg.SchedulerName != "mine" || le.LeaderElect || le.LeaseDuration.Duration != 9*time.Second || le.RetryPeriod.Duration != time.Second {
		t.Errorf("exit %d, %s, %+v", code, out, cfg)
	}
	if got := cfg.Address(); got != "0.0.0.0:1234" {
		t.Errorf("address with TLS: %s", got)
	}
	cfg.TLSCertFile = ""
	if got := cfg.Address(); got != "127.0.0.1:1234" {
		t.Errorf("address without TLS: %s", got)
	}
	cfg.SecurePort = 0
	if got := cfg.Address(); got != "" {
		t.Errorf("address without port: %s", got)
	}
}

// Shows that wrong settings are refused with the flag's name and what to do.
func TestWrongSettings(t *testing.T) {
	for args, want := range map[string]string{
		"--kubeconfig=":                    "--kubeconfig is empty",
		"--scheduler-name=":                "--scheduler-name is empty",
		"--secure-port 70000":              "--secure-port 70000",
		"--bind-address here":              `--bind-address "here"`,
		"--tls-cert-file x":                "give both or neither",
		"--leader-elect-lease-duration 1s": "must each be longer",
	} {
		if _, code, out := execute(t, strings.Fields(args)...); code != 2 || !strings.Contains(out, want) {
			t.Errorf("%s: exit %d, %q, want …%s…", args, code, out, want)
		}
	}
}
