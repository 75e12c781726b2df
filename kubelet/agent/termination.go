package agent

import (
	"bytes"
	"io"
	"os"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/logs"
	"bareboat.dev/kubelet/shim"
)

// Limits of termination messages, as the API documents them: 4096 bytes from the file, and from the log the last 80 lines
// or 2048 bytes, whichever is less.
const (
	messageLimit    = 4096
	logMessageLimit = 2048
	logMessageLines = 80
)

// terminationMessage reads what an instance has left to say.
func (a *Agent) terminationMessage(c *corev1.Container, r *record, s shim.ContainerStatus) string {
	text := readHead(r.MessagePath, messageLimit)
	if text != "" || c == nil || c.TerminationMessagePolicy != corev1.TerminationMessageFallbackToLogsOnError || s.ExitCode == 0 {
		return text
	}
	var b bytes.Buffer
	lines := int64(logMessageLines)
	if err := logs.Read(a.ctx, r.LogPath, logs.Options{TailLines: &lines}, &b, &b); err != nil {
		return ""
	}
	tail := b.Bytes()
	return string(tail[max(len(tail)-logMessageLimit, 0):])
}

func readHead(path string, limit int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	data, _ := io.ReadAll(io.LimitReader(f, limit))
	return string(data)
}
