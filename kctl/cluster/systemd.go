package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// systemd runs the daemons as units.
type systemd struct{ l Layout }

func (s systemd) units() []string {
	var names []string
	for _, d := range Daemons() {
		names = append(names, unitName(d))
	}
	return names
}

func systemctl(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return text, fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, text)
	}
	return text, nil
}

// running reports whether every unit is up or on its way, as after a boot; with some of them down Up begins anew, which pods survive.
func (s systemd) running() bool { return s.up() == len(Daemons()) }

// settle stops what runs of a cluster of which not everything does: its daemons hold the ports that preflight wants free.
func (s systemd) settle(ctx context.Context) error {
	if s.up() == 0 {
		return nil
	}
	return s.stop(ctx)
}

// up counts the units that are up or on their way.
func (s systemd) up() int {
	// is-active prints a state per unit and fails if any is not active, so that its error says nothing more.
	out, _ := exec.Command("systemctl", append([]string{"is-active"}, s.units()...)...).Output()
	return countUp(string(out))
}

func countUp(states string) (n int) {
	for state := range strings.FieldsSeq(states) {
		switch state {
		case "active", "activating", "reloading":
			n++
		}
	}
	return n
}

// unitDir is where units that were not installed by a package live.
const unitDir = "/etc/systemd/system"

func (s systemd) start(ctx context.Context) error {
	if err := install(s.l, installedLib); err != nil {
		return err
	}
	for _, d := range Daemons() {
		text, err := os.ReadFile(filepath.Join(s.l.Lib, "systemd", unitName(d)))
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(unitDir, unitName(d)), text, 0o644); err != nil {
			return err
		}
	}
	if _, err := systemctl(ctx, "daemon-reload"); err != nil {
		return err
	}
	_, err := systemctl(ctx, append([]string{"enable", "--now", "--no-block", "--quiet"}, s.units()...)...)
	return err
}

func (s systemd) stop(ctx context.Context) error {
	names := s.units()
	for i := len(names) - 1; i >= 0; i-- {
		if _, err := os.Stat(filepath.Join(unitDir, names[i])); err != nil {
			continue
		}
		if _, err := systemctl(ctx, "disable", "--now", "--quiet", names[i]); err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(unitDir, names[i])); err != nil {
			return err
		}
	}
	_, err := systemctl(ctx, "daemon-reload")
	return err
}

func (s systemd) ready(daemon string) bool {
	_, err := systemctl(context.Background(), "is-active", "--quiet", unitName(daemon))
	return err == nil
}

func (s systemd) failed() (string, bool) {
	for _, d := range Daemons() {
		n, _ := systemctl(context.Background(), "show", "--property=NRestarts", "--value", unitName(d))
		if ends, err := strconv.Atoi(n); err == nil && ends >= maxEnds && !s.ready(d) {
			words, _ := exec.Command("journalctl", "_SYSTEMD_UNIT="+unitName(d), "--lines=1", "--output=cat", "--no-pager").Output()
			return fmt.Sprintf("the %s ended while starting: %s (more: journalctl -u %s)", d, strings.TrimSpace(string(words)), unitName(d)), true
		}
	}
	return "", false
}
