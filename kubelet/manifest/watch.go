package manifest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/dirwatch"
)

// Problem is a file that is no manifest.
type Problem struct {
	File string
	Err  error
}

// lostRetry is when a directory that was removed while it was watched is made and watched again.
const lostRetry = time.Second

// Watch reads the manifests of a directory, which it makes if there is none, and calls changed with all pods, in the order of
// their files' names, and with the files that have become bad: at first, and then whenever a file changes. It returns when ctx
// ends, or if the directory cannot be watched at all.
func Watch(ctx context.Context, watches *dirwatch.Source, dir, node string, changed func([]*corev1.Pod, []Problem)) error {
	r := reader{watches: watches, dir: dir, node: node, files: map[string]file{}}
	for {
		err := r.follow(ctx, changed)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch static pods in %s: %w", dir, err)
		}
		timer := time.NewTimer(lostRetry)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// reader knows what the files of a directory have said.
type reader struct {
	watches   *dirwatch.Source
	dir, node string
	files     map[string]file
	// told is whether anything was told yet, pods and bad what was read last.
	told bool
	pods []*corev1.Pod
	bad  []Problem
}

// file is what is known of one; the zero value is none.
type file struct {
	read    bool
	content string
	// pod is the last good one, nil if there was none.
	pod *corev1.Pod
}

// follow watches until the directory is gone or ctx ends.
func (r *reader) follow(ctx context.Context, changed func([]*corev1.Pod, []Problem)) error {
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return err
	}
	w, err := r.watches.Open(r.dir, dirwatch.Moved|dirwatch.Written)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		pods, bad, err := r.read()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if r.differs(pods, bad) {
			changed(pods, bad)
		}
		select {
		case <-ctx.Done():
			return nil
		case _, there := <-w.Changed():
			if !there {
				return nil
			}
		}
	}
}

// differs notes what was read and says whether it is worth telling: where the directory is only looked at, most times it is not.
func (r *reader) differs(pods []*corev1.Pod, bad []Problem) bool {
	same := r.told && slices.Equal(pods, r.pods) && !slices.ContainsFunc(bad, func(p Problem) bool {
		return !slices.ContainsFunc(r.bad, func(old Problem) bool { return old.File == p.File && old.Err.Error() == p.Err.Error() })
	})
	r.told, r.pods, r.bad = true, pods, bad
	return !same
}

// read reads the directory anew.
func (r *reader) read() (pods []*corev1.Pod, bad []Problem, err error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, nil, err
	}
	seen, taken := map[string]bool{}, map[string]string{}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") {
			continue
		}
		f, problem := r.readFile(name)
		if problem != nil {
			bad = append(bad, Problem{filepath.Join(r.dir, name), problem})
		}
		if !f.read {
			continue
		}
		seen[name] = true
		if r.files[name] = f; f.pod == nil {
			continue
		}
		full := f.pod.Namespace + "/" + f.pod.Name
		if first, dup := taken[full]; dup {
			if problem == nil {
				bad = append(bad, Problem{filepath.Join(r.dir, name), invalidf("%s already describes pod %s", first, full)})
			}
			continue
		}
		taken[full] = name
		pods = append(pods, f.pod)
	}
	for name := range r.files {
		if !seen[name] {
			delete(r.files, name)
		}
	}
	return pods, bad, nil
}

// readFile reads a file, unless it says what it said before. If it has become bad, the pod is the last good one.
func (r *reader) readFile(name string) (file, error) {
	old := r.files[name]
	path := filepath.Join(r.dir, name)
	info, err := os.Stat(path) // manifests may be symbolic links, as configuration management makes them
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return file{}, nil
	}
	content, err := readLimited(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return file{}, nil
	case err != nil:
		return old, err
	case old.read && old.content == string(content):
		return old, nil
	}
	p, err := Parse(content, r.node)
	if err != nil {
		return file{true, string(content), old.pod}, err
	}
	return file{true, string(content), p}, nil
}

func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, SizeLimit+1))
	return slices.Clip(content), err
}
