package runspec

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestEnvFile shows what a file of environment variables may say, and what is said of one that is none.
func TestEnvFile(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "map[]",
		"A='1'":                       "map[A:1]",
		"A='1'\nB='2'\n":              "map[A:1 B:2]",
		"# A='0'\n\n \t\n  A='1'  \n": "map[A:1]",
		"A = '1'":                     "map[A:1]",
		"A=''":                        "map[A:]",
		"A='x # y \\n $B \"q\"'":      `map[A:x # y \n $B "q"]`,
		"A='1\n# two\n'\nB='3'":       "map[A:1\n# two\n B:3]",
		"A='1'\r\nB='2'\r\n":          "map[A:1 B:2]",
		"A='1'\nA='2'":                "map[A:2]",
		"my.key-1='x'":                "map[my.key-1:x]",
		"A=1":                         "line 1: the value of A must be enclosed in single quotes",
		"\nA=\"1\"":                   "line 2: the value of A must be enclosed in single quotes",
		"A='1''2'":                    "line 1: nothing may follow the value of A",
		"A='a\nb'\nB='1'$A":           "line 3: nothing may follow the value of B",
		"A='1' # why":                 "line 1: nothing may follow the value of A",
		"A='1":                        "line 1: the value of A has no closing quote",
		"export A":                    "line 1: a variable is declared as NAME='value'",
		"='1'":                        "line 1: a variable is declared as NAME='value'",
	} {
		values, err := parseEnvFile(text)
		got := fmt.Sprint(values)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestFileKeyRef shows variables from a file of a volume, and what is said when there is no such file or variable.
func TestFileKeyRef(t *testing.T) {
	sources := fakeSources{"v/app.env": fileOf("A='1'\nB='two'"), "v/bad": fileOf("A=1")}
	env := func(ref string) (string, error) {
		list, err := Env(EnvInput{Pod: &corev1.Pod{}, Container: container(t, `{env: [{name: X, valueFrom: {fileKeyRef: {volumeName: v, `+ref+`}}}]}`), Sources: sources})
		return strings.Join(list, ","), err
	}
	for ref, want := range map[string]string{
		`path: app.env, key: B`:                 "X=two",
		`path: app.env, key: C, optional: true`: "",
		`path: none, key: B, optional: true`:    "",
	} {
		if got, err := env(ref); got != want || err != nil {
			t.Errorf("%s: %q, %v", ref, got, err)
		}
	}
	for ref, want := range map[string]string{
		`path: app.env, key: C`:             `environment variable key "C" not found in file "app.env" of volume "v"`,
		`path: none, key: B`:                `environment variable file "none" not found in volume "v"`,
		`path: bad, key: A, optional: true`: `couldn't parse environment variable file "bad" of volume "v": line 1: the value of A must be enclosed in single quotes`,
	} {
		if _, err := env(ref); err == nil || err.Error() != want || !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", ref, err)
		}
	}
}
