package rest

import (
	"errors"
	"testing"

	utilexec "k8s.io/utils/exec"
)

// What ends a command over WebSocket is a Status in the protocols that have a version, and in the others the text of a failure, or nothing.
func TestLastWords(t *testing.T) {
	failed := utilexec.CodeExitError{Err: errors.New("command terminated with exit code 3"), Code: 3}
	const text = "command terminated with non-zero exit code: command terminated with exit code 3"
	const status = `{"metadata":{},"status":"Failure","message":"` + text + `","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}`
	for protocol, want := range map[string][2]string{
		"v5.channel.k8s.io":        {`{"metadata":{},"status":"Success"}`, status},
		"v4.base64.channel.k8s.io": {`{"metadata":{},"status":"Success"}`, status},
		"channel.k8s.io":           {"", text},
		"base64.channel.k8s.io":    {"", text},
		"":                         {"", text},
	} {
		if got := [2]string{string(lastWords(exitStatus(nil), protocol)), string(lastWords(exitStatus(failed), protocol))}; got != want {
			t.Errorf("%q: %q, want %q", protocol, got, want)
		}
	}
}
