package cluster

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// unit is what the supervisor needs to know of a systemd unit file.
type unit struct {
	name string
	// args is the command of ExecStart.
	args []string
	env  []string
}

// unitName is the name of a daemon's unit.
func unitName(daemon string) string { return "bareboat-" + daemon + ".service" }

// readUnit reads a daemon's unit file and puts the layout's own folder in place of the installed one.
func readUnit(l Layout, daemon string) (unit, error) {
	text, err := unitText(l, daemon)
	if err != nil {
		return unit{}, err
	}
	u := unit{name: daemon}
	section := ""
	for sc := bufio.NewScanner(strings.NewReader(text)); sc.Scan(); {
		line := strings.TrimSpace(sc.Text())
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || section != "[Service]" {
			continue
		}
		switch key {
		case "ExecStart":
			u.args = strings.Fields(value)
		case "Environment":
			u.env = append(u.env, strings.Trim(value, `"`))
		}
	}
	if len(u.args) == 0 {
		return u, fmt.Errorf("%s has no ExecStart", unitName(daemon))
	}
	return u, nil
}

// unitText returns the unit file with the daemons' folder put in.
func unitText(l Layout, daemon string) (string, error) {
	data, err := os.ReadFile(filepath.Join(l.Lib, "systemd", unitName(daemon)))
	if err != nil {
		return "", fmt.Errorf("read the daemon's unit: %w", err)
	}
	return strings.ReplaceAll(string(data), installedLib, l.Lib), nil
}
