package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
)

// linkLog makes the link under which log collectors look for an instance's log.
func (a *Agent) linkLog(p *corev1.Pod, r *record) {
	if a.LinkRoot == "" {
		return
	}
	link := filepath.Join(a.LinkRoot, p.Name+"_"+p.Namespace+"_"+r.Name+"-"+r.ID+".log")
	err := os.MkdirAll(a.LinkRoot, 0o755)
	if err == nil {
		err = os.Symlink(r.LogPath, link)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		a.Log.Warn("log link was not made", "path", link, "error", err)
	}
}

// unlinkLogs removes the links to a pod's logs.
func (a *Agent) unlinkLogs(p *corev1.Pod) {
	if a.LinkRoot == "" {
		return
	}
	links, _ := filepath.Glob(filepath.Join(a.LinkRoot, p.Name+"_"+p.Namespace+"_*.log"))
	dir := a.logDir(p) + "/"
	for _, l := range links {
		if target, err := os.Readlink(l); err == nil && len(target) > len(dir) && target[:len(dir)] == dir {
			_ = os.Remove(l) // a link left behind is harmless
		}
	}
}

// removeLog removes an instance's log, the rotated parts too, and the link to it.
func (a *Agent) removeLog(r *record) error {
	if r.LogPath == "" {
		return nil
	}
	if a.LinkRoot != "" {
		links, _ := filepath.Glob(filepath.Join(a.LinkRoot, "*-"+r.ID+".log"))
		for _, l := range links {
			_ = os.Remove(l)
		}
	}
	parts, _ := filepath.Glob(r.LogPath + "*")
	var err error
	for _, p := range parts {
		err = errors.Join(err, os.Remove(p))
	}
	return err
}
