package cluster

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// maxLog is how large a log may be when its daemon is started; then it becomes the one old log that is kept. 16 MiB are some
// 100,000 lines: days of a healthy daemon, and of one that keeps failing many hours.
const maxLog = 16 << 20

// logFile is where a daemon's output goes.
func logFile(l Layout, daemon string) string { return filepath.Join(l.Log, daemon+".log") }

// openLog opens a daemon's log for appending, after setting a large one aside.
func openLog(l Layout, daemon string) (*os.File, error) {
	path := logFile(l, daemon)
	if err := os.MkdirAll(l.Log, 0o750); err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
}

// complaint returns what a program said about its failure, without its log lines.
func complaint(output []byte) string {
	var kept []string
	for line := range strings.Lines(string(output)) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "time=") && !strings.HasPrefix(line, "{") {
			kept = append(kept, line)
		}
	}
	if len(kept) == 0 {
		return strings.TrimSpace(string(output))
	}
	return strings.Join(kept, "; ")
}

// commandHas reports whether a process's NUL-separated command line runs the program, directly or through an interpreter.
func commandHas(args []byte, program string) bool {
	for i, arg := range bytes.Split(args, []byte{0}) {
		if i < 2 && string(arg) == program {
			return true
		}
	}
	return false
}
