package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"bareboat.dev/kubelet/dirwatch"
)

// Options say what of a log is wanted.
type Options struct {
	// Since leaves out what is older; zero leaves out nothing.
	Since time.Time
	// TailLines is how many lines from the end are wanted; nil means all.
	TailLines *int64
	// LimitBytes ends the reading after so many bytes of output; nil means no limit.
	LimitBytes *int64
	// Timestamps puts each line's time in front of it.
	Timestamps bool
	// Follow waits for more at the end, also when the log is rotated, until Done is closed and everything is read.
	Follow bool
	// Done says that the container has exited: nothing more will be written.
	Done <-chan struct{}
	// Watches is how Follow waits; nil is fine.
	Watches *dirwatch.Source
}

// ErrLimit ends the reading when LimitBytes have been written. Read does not return it.
var errLimit = errors.New("limit reached")

// errRemoved ends the following of a log whose directory has been removed.
var errRemoved = errors.New("the directory has been removed")

// Read writes the log at path to stdout and stderr, by stream. It returns when everything wanted is written or ctx ends. A log
// that does not exist is an error that is os.ErrNotExist.
func Read(ctx context.Context, path string, o Options, stdout, stderr io.Writer) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	r := &reader{path: path, o: o, file: f, out: map[string]io.Writer{"stdout": stdout, "stderr": stderr}, left: -1, fresh: map[string]bool{}}
	defer func() { _ = r.file.Close() }()
	if o.LimitBytes != nil {
		r.left = *o.LimitBytes
	}
	if o.TailLines != nil {
		offset, err := tailOffset(f, *o.TailLines)
		if err != nil {
			return err
		}
		if _, err := f.Seek(offset, io.SeekStart); err != nil {
			return err
		}
	}
	if !o.Follow {
		err = r.drain(ctx)
	} else {
		err = r.follow(ctx)
	}
	if errors.Is(err, errLimit) {
		return nil
	}
	return err
}

// reader is one reading of a log.
type reader struct {
	path string
	o    Options
	file *os.File
	out  map[string]io.Writer
	// left is how many bytes may still be written, -1 for any number.
	left int64
	// rest is the beginning of a line whose end has yet to be written.
	rest []byte
	// fresh says by stream whether the last line was partial, so that the next goes on with it.
	fresh map[string]bool
}

// bufferSize is that of one read: a few lines of the usual length, one of the longest that podshim writes.
const bufferSize = 32 << 10

// drain writes everything up to the file's end as it is now.
func (r *reader) drain(ctx context.Context) error {
	buffer := make([]byte, bufferSize)
	for ctx.Err() == nil {
		n, err := r.file.Read(buffer)
		if e := r.take(buffer[:n]); e != nil {
			return e
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// take splits what was read into lines and writes them.
func (r *reader) take(data []byte) error {
	r.rest = append(r.rest, data...)
	for {
		line, after, ok := bytes.Cut(r.rest, []byte{'\n'})
		if !ok {
			r.rest = append([]byte(nil), r.rest...)
			return nil
		}
		if err := r.write(line); err != nil {
			return err
		}
		r.rest = after
	}
}

// write writes one line of the log.
func (r *reader) write(line []byte) error {
	l, err := Parse(line)
	if err != nil {
		return nil // not of our making: a line cut short by a full disk
	}
	if !r.o.Since.IsZero() && l.Time.Before(r.o.Since) {
		return nil
	}
	w := r.out[l.Stream]
	if w == nil {
		return nil
	}
	var text []byte
	if r.o.Timestamps && !r.fresh[l.Stream] {
		text = append(l.Time.AppendFormat(nil, time.RFC3339Nano), ' ')
	}
	text = append(text, l.Text...)
	if !l.Partial {
		text = append(text, '\n')
	}
	r.fresh[l.Stream] = l.Partial
	if r.left >= 0 && int64(len(text)) > r.left {
		text = text[:r.left]
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	if r.left >= 0 {
		if r.left -= int64(len(text)); r.left == 0 {
			return errLimit
		}
	}
	return nil
}

// follow writes what there is and what comes, until the container has exited or ctx ends.
func (r *reader) follow(ctx context.Context) error {
	w, err := r.o.Watches.Open(filepath.Dir(r.path), dirwatch.Names|dirwatch.Growing)
	if err != nil {
		return fmt.Errorf("watch the log: %w", err)
	}
	defer w.Close()
	for {
		done := isClosed(r.o.Done) // asked before reading: what is written before the exit is read after it
		if err := r.drain(ctx); err != nil {
			return err
		}
		if rotated, err := r.reopen(); err != nil || rotated {
			if err != nil {
				return err
			}
			continue
		}
		if done {
			return nil
		}
		if err := r.wait(ctx, w); err != nil {
			return err
		}
	}
}

// wait returns when the log may have changed, or the container has exited.
func (r *reader) wait(ctx context.Context, w *dirwatch.Watcher) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-r.o.Done:
		return nil
	case _, there := <-w.Changed():
		if !there {
			return fmt.Errorf("watch the log: %s: %w", filepath.Dir(r.path), errRemoved)
		}
		return nil
	}
}

// reopen goes over to the new file if the log has been rotated. The old one has been read to its end, which the rename
// comes after.
func (r *reader) reopen() (bool, error) {
	next, err := os.Open(r.path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // between the rename and the new file's creation
	}
	if err != nil {
		return false, err
	}
	old, err1 := r.file.Stat()
	now, err2 := next.Stat()
	if err := errors.Join(err1, err2); err != nil || os.SameFile(old, now) {
		_ = next.Close()
		return false, err
	}
	// What was written to the old file between our last read and the rename is still to be read.
	if err := r.drain(context.Background()); err != nil {
		_ = next.Close()
		return false, err
	}
	_ = r.file.Close()
	r.file = next
	return true, nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// tailOffset is where the last n lines of f begin.
func tailOffset(f *os.File, n int64) (int64, error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || n <= 0 {
		return end, err
	}
	buffer := make([]byte, bufferSize)
	lines := newLineCounter(n)
	for at := end; at > 0; {
		size := min(int64(len(buffer)), at)
		at -= size
		if _, err := f.ReadAt(buffer[:size], at); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if offset, ok := lines.back(buffer[:size], at, at+size == end); ok {
			return offset, nil
		}
	}
	return 0, nil
}

// lineCounter counts complete lines backwards.
type lineCounter struct{ left int64 }

func newLineCounter(n int64) *lineCounter { return &lineCounter{n} }

// back looks for line ends in a chunk that begins at offset at, from its end to its beginning.
func (c *lineCounter) back(chunk []byte, at int64, last bool) (int64, bool) {
	for i := len(chunk) - 1; i >= 0; i-- {
		if chunk[i] != '\n' || last && i == len(chunk)-1 {
			continue
		}
		if c.left--; c.left == 0 {
			return at + int64(i) + 1, true
		}
	}
	return 0, false
}

// Line is one line of a log.
type Line struct {
	Time   time.Time
	Stream string
	// Partial says that the text goes on in the stream's next line.
	Partial bool
	Text    []byte
}

// Parse reads one line, without its line end.
func Parse(line []byte) (Line, error) {
	stamp, rest, ok1 := bytes.Cut(line, []byte{' '})
	stream, rest, ok2 := bytes.Cut(rest, []byte{' '})
	tag, text, _ := bytes.Cut(rest, []byte{' '})
	if !ok1 || !ok2 || len(tag) == 0 {
		return Line{}, errors.New("not a line of a CRI log")
	}
	t, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return Line{}, err
	}
	first, _, _ := bytes.Cut(tag, []byte{':'})
	return Line{Time: t, Stream: string(stream), Partial: string(first) == "P", Text: text}, nil
}
