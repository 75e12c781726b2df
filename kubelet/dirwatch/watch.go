package dirwatch

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Mask says what counts as a change of a directory.
type Mask uint32

const (
	// Moved: a file is renamed, into or out of the directory or within it, or removed.
	Moved Mask = unix.IN_DELETE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM
	// Names: a file comes, in whatever way, or goes. What comes may be empty yet.
	Names = Moved | unix.IN_CREATE
	// Written: a file that was open for writing is closed. What is still being written does not count.
	Written Mask = unix.IN_CLOSE_WRITE
	// Growing: a file is written to.
	Growing Mask = unix.IN_MODIFY

	// lost is what always counts: the directory itself goes.
	lost Mask = unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR
)

const (
	// lookEvery is how often a directory is looked at without inotify: a file is noticed about as soon as a person expects, and the
	// look costs one wake-up.
	lookEvery = time.Second
	// retryEvery is how often inotify is tried again meanwhile.
	retryEvery = 30 * time.Second
)

// The settings that may be exhausted, each for all processes of a user.
const (
	instancesSetting = "fs.inotify.max_user_instances"
	watchesSetting   = "fs.inotify.max_user_watches"
)

// Source opens watchers and says when inotify cannot be used. A nil Source works and says nothing.
type Source struct {
	log *slog.Logger

	mu sync.Mutex
	// without counts the watchers that have to do without inotify.
	without int
}

// New makes a source that logs to log.
func New(log *slog.Logger) *Source { return &Source{log: log} }

// Watcher watches one directory.
type Watcher struct {
	source  *Source
	dir     string
	mask    Mask
	changed chan struct{}
	stop    chan struct{}
	once    sync.Once
	wg      sync.WaitGroup

	mu sync.Mutex
	in *os.File // nil without inotify
}

// Open watches a directory. It fails if the directory cannot be watched in any way, as when there is none.
func (s *Source) Open(dir string, mask Mask) (*Watcher, error) {
	w := &Watcher{source: s, dir: dir, mask: mask, changed: make(chan struct{}, 1), stop: make(chan struct{})}
	in, err := w.open()
	if setting := exhausted(err); setting != "" {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return nil, errors.Join(err, notDir(dir, err))
		}
		s.begin(setting, dir)
		w.wg.Go(w.look)
		return w, nil
	}
	if err != nil {
		return nil, err
	}
	w.in = in
	w.wg.Go(func() { w.read(in) })
	return w, nil
}

func notDir(dir string, err error) error {
	if err != nil {
		return nil
	}
	return &fs.PathError{Op: "watch", Path: dir, Err: unix.ENOTDIR}
}

// Changed receives after changes, and is closed when the directory is no longer there, or after Close.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Close ends the watching.
func (w *Watcher) Close() {
	w.once.Do(func() {
		close(w.stop)
		w.mu.Lock()
		if w.in != nil {
			_ = w.in.Close()
		}
		w.mu.Unlock()
	})
	w.wg.Wait()
}

// tell notes a change.
func (w *Watcher) tell() {
	select {
	case w.changed <- struct{}{}:
	default: // one is waiting to be received, which comes after this change, too
	}
}

// open asks the kernel to watch.
func (w *Watcher) open() (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, &exhaustion{instancesSetting, err}
	}
	in := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, w.dir, uint32(w.mask|lost)); err != nil {
		_ = in.Close()
		if errors.Is(err, unix.ENOSPC) {
			return nil, &exhaustion{watchesSetting, err}
		}
		return nil, &fs.PathError{Op: "watch", Path: w.dir, Err: err}
	}
	return in, nil
}

// exhaustion is the error of what the kernel has no more of.
type exhaustion struct {
	setting string
	err     error
}

func (e *exhaustion) Error() string { return e.setting + ": " + e.err.Error() }
func (e *exhaustion) Unwrap() error { return e.err }

// exhausted is the setting that an error is about; empty for other errors.
func exhausted(err error) string {
	var e *exhaustion
	if errors.As(err, &e) {
		return e.setting
	}
	return ""
}

// read tells what inotify says, until the directory is gone or the watcher closed.
func (w *Watcher) read(in *os.File) {
	defer close(w.changed)
	defer in.Close()
	buffer := make([]byte, 4<<10) // at least 14 events with the longest names; what does not fit comes with the next read
	for {
		n, err := in.Read(buffer)
		if err != nil || gone(buffer[:n]) {
			return
		}
		w.tell()
	}
}

// gone says whether events tell that the directory itself is no longer there.
func gone(data []byte) bool {
	for len(data) >= unix.SizeofInotifyEvent {
		mask, length := binary.NativeEndian.Uint32(data[4:]), int(binary.NativeEndian.Uint32(data[12:]))
		if mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_IGNORED) != 0 {
			return true
		}
		data = data[min(unix.SizeofInotifyEvent+length, len(data)):]
	}
	return false
}

// look tells of a possible change from time to time, until inotify can be used, or the directory is gone or the watcher closed.
func (w *Watcher) look() {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	retry := time.Now().Add(retryEvery)
	for {
		select {
		case <-w.stop:
			w.source.end("")
			close(w.changed)
			return
		case now := <-ticker.C:
			if info, err := os.Stat(w.dir); err != nil || !info.IsDir() {
				w.source.end("")
				close(w.changed)
				return
			}
			if now.After(retry) {
				if w.resume() {
					return
				}
				retry = now.Add(retryEvery)
			}
			w.tell()
		}
	}
}

// resume goes over to inotify if that is possible again.
func (w *Watcher) resume() bool {
	in, err := w.open()
	if err != nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.stop:
		_ = in.Close()
		return false // look ends at once
	default:
	}
	w.in = in
	w.source.end(w.dir)
	w.tell() // of what has changed before the kernel watched
	w.wg.Go(func() { w.read(in) })
	return true
}

// begin notes that a watcher does without inotify, and says so if it is the first.
func (s *Source) begin(setting, dir string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.without++; s.without == 1 {
		s.log.Warn("inotify is used up on this host: directories are looked at every second instead; raise the setting with sysctl -w",
			"setting", setting, "directory", dir)
	}
}

// end notes that a watcher no longer does without: it has ended, or watches the named directory by inotify again.
func (s *Source) end(resumed string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.without--; s.without == 0 && resumed != "" {
		s.log.Info("inotify can be used again")
	}
}
