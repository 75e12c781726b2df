package house

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnitsVerify shows that systemd itself finds nothing to say against the unit files, and that all but the kubelet, which works on the
// host, are sandboxed.
func TestUnitsVerify(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Fatal("this test needs systemd-analyze; install it with: apt-get install systemd")
	}
	root := t.TempDir()
	copyTree(t, "/usr/lib/systemd/system", filepath.Join(root, "usr/lib/systemd/system"))
	units, err := filepath.Glob("../../deploy/systemd/*.service")
	if err != nil || len(units) != 6 {
		t.Fatalf("units are %v, %v; want one for each of six daemons", units, err)
	}
	args := []string{"verify", "--man=no", "--root=" + root}
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(unit)
		daemon := strings.TrimSuffix(strings.TrimPrefix(name, "bareboat-"), ".service")
		write(t, filepath.Join(root, "etc/systemd/system", name), string(text), 0o644)
		write(t, filepath.Join(root, "usr/local/lib/bareboat/bin", daemon), "#!/bin/sh\n", 0o755)
		args = append(args, name)
		for _, want := range []string{"Type=notify", "WatchdogSec=", "Restart=always"} {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s lacks %s", name, want)
			}
		}
		if daemon != "kubelet" && !strings.Contains(string(text), "ProtectSystem=strict") {
			t.Errorf("%s is not sandboxed", name)
		}
	}
	out, err := exec.Command(analyze, args...).CombinedOutput()
	if err != nil || strings.Contains(string(out), "bareboat-") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
