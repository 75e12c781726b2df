package server

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// maxLine is the longest content of one log line; what is longer is cut into several, all but the last marked partial. It is the
// CRI's customary 16 KiB, which log readers size their buffers for.
const maxLine = 16 << 10

// timestampFormat is RFC 3339 with all nine digits, always in UTC.
const timestampFormat = "2006-01-02T15:04:05.000000000Z07:00"

// logFile is a container's log in CRI format: one line per line of output, `<time> <stream> <F|P> <content>`.
//
// Each append is one write, so that lines of the two streams never mix and a reader sees whole lines only.
type logFile struct {
	path string

	mu     sync.Mutex
	file   *os.File // nil: output is discarded
	broken bool     // the last write stopped inside a line
	lost   int64    // bytes of log that could not be written since the last that could
}

// openLog opens the log at path; an empty path discards.
func openLog(path string) (*logFile, error) {
	l := &logFile{path: path}
	if path == "" {
		return l, nil
	}
	return l, l.reopen()
}

// reopen opens the path anew, for rotation.
func (l *logFile) reopen() error {
	if l.path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(l.path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	l.mu.Lock()
	old := l.file
	l.file, l.broken = f, false
	l.mu.Unlock()
	if old != nil {
		return old.Close() // while output goes on into the new one
	}
	return nil
}

// append writes formatted lines. A full disk must not stop the container: what cannot be written is counted, and the log says so as soon
// as it can again.
func (l *logFile) append(lines []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil || len(lines) == 0 {
		return
	}
	if l.broken || l.lost > 0 {
		note := l.noteLocked()
		if n, err := l.file.Write(note); err != nil {
			l.broken = l.broken || n > 0
			l.lost += int64(len(lines))
			return
		}
		l.broken, l.lost = false, 0
	}
	n, err := l.file.Write(lines)
	if err != nil {
		l.lost += int64(len(lines) - n)
		l.broken = n > 0 && lines[n-1] != '\n'
	}
}

// noteLocked says in the log itself that some of it is missing.
func (l *logFile) noteLocked() []byte {
	var b []byte
	if l.broken {
		b = append(b, '\n')
	}
	b = time.Now().UTC().AppendFormat(b, timestampFormat)
	return fmt.Appendf(b, " stderr F bareboat: about %d bytes of output were lost here: the log could not be written\n", l.lost)
}

func (l *logFile) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// lineFormatter cuts one stream into CRI log lines. It is pure: time is given, nothing is written.
type lineFormatter struct {
	stream string // "stdout" or "stderr"
	// pending is the beginning of a line whose end has not come yet. Invariant: len(pending) < maxLine, no newline in it.
	pending []byte
}

// format appends to dst the log lines that data completes.
func (f *lineFormatter) format(dst []byte, now time.Time, data []byte) []byte {
	var stamp [64]byte
	prefix := append(now.UTC().AppendFormat(stamp[:0], timestampFormat), ' ')
	prefix = append(append(prefix, f.stream...), ' ')
	for len(data) > 0 {
		room := maxLine - len(f.pending)
		end := bytes.IndexByte(data[:min(len(data), room+1)], '\n')
		switch {
		case end >= 0:
			dst = append(append(dst, prefix...), "F "...)
			dst = append(append(dst, f.pending...), data[:end+1]...)
			f.pending, data = f.pending[:0], data[end+1:]
		case len(data) >= room:
			dst = append(append(dst, prefix...), "P "...)
			dst = append(append(append(dst, f.pending...), data[:room]...), '\n')
			f.pending, data = f.pending[:0], data[room:]
		default:
			f.pending = append(f.pending, data...)
			return dst
		}
	}
	if len(f.pending) == 0 {
		f.pending = nil // give its memory back
	}
	return dst
}

// flush appends the line that never got its newline, marked partial, so that a reader adds none.
func (f *lineFormatter) flush(dst []byte, now time.Time) []byte {
	if len(f.pending) == 0 {
		return dst
	}
	dst = append(now.UTC().AppendFormat(dst, timestampFormat), ' ')
	dst = append(append(dst, f.stream...), " P "...)
	dst = append(append(dst, f.pending...), '\n')
	f.pending = nil
	return dst
}
