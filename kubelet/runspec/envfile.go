package runspec

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// parseEnvFile reads a file of environment variables as Kubernetes defines it (KEP-3721): NAME='value' a line, each value in one pair of
// single quotes, which may span lines and mean what they say; blank lines, lines that begin with '#', and spaces around are ignored. A shell
// reads every such file the same way, so the last value of a name counts.
func parseEnvFile(text string) (map[string]string, error) {
	values := map[string]string{}
	for line := 1; text != ""; {
		declaration, rest, _ := strings.Cut(text, "\n")
		trimmed := strings.TrimLeft(declaration, " \t")
		if strings.TrimSpace(trimmed) == "" || trimmed[0] == '#' {
			text, line = rest, line+1
			continue
		}
		name, after, ok := strings.Cut(trimmed, "=")
		name = strings.TrimRight(name, " \t")
		if !ok || !validEnvName(name) || strings.ContainsAny(name, " '") {
			return nil, fmt.Errorf("line %d: a variable is declared as NAME='value'", line)
		}
		// From here on in the whole text: a value may span lines.
		quoted := strings.TrimLeft(after, " \t")
		if !strings.HasPrefix(quoted, "'") {
			return nil, fmt.Errorf("line %d: the value of %s must be enclosed in single quotes", line, name)
		}
		value := text[len(declaration)-len(quoted)+1:]
		end := strings.IndexByte(value, '\'')
		if end < 0 {
			return nil, fmt.Errorf("line %d: the value of %s has no closing quote", line, name)
		}
		tail, rest, _ := strings.Cut(value[end+1:], "\n")
		if strings.TrimSpace(tail) != "" {
			return nil, fmt.Errorf("line %d: nothing may follow the value of %s", line, name)
		}
		values[name] = value[:end]
		line += strings.Count(value[:end], "\n") + 1
		text = rest
	}
	return values, nil
}

// fileKey is the value of one variable in a file of a volume.
func (in EnvInput) fileKey(ref *corev1.FileKeySelector) (string, bool, error) {
	optional := ref.Optional != nil && *ref.Optional
	data, err := in.Sources.File(in.Pod, ref.VolumeName, ref.Path)
	if errors.Is(err, fs.ErrNotExist) {
		if optional {
			return "", false, nil
		}
		return "", false, configf("environment variable file %q not found in volume %q", ref.Path, ref.VolumeName)
	}
	if err != nil {
		return "", false, configf("couldn't read environment variable file %q of volume %q: %w", ref.Path, ref.VolumeName, err)
	}
	values, err := parseEnvFile(string(data))
	if err != nil {
		return "", false, configf("couldn't parse environment variable file %q of volume %q: %w", ref.Path, ref.VolumeName, err)
	}
	value, ok := values[ref.Key]
	if !ok && !optional {
		return "", false, configf("environment variable key %q not found in file %q of volume %q", ref.Key, ref.Path, ref.VolumeName)
	}
	return value, ok, nil
}
