package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/kubelet/shim"
)

// record is what must be known of an instance after a restart of the kubelet, beyond what its podshim knows.
type record struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Attempt int    `json:"attempt"`
	// Sandbox is the id of the sandbox that it was made in.
	Sandbox string `json:"sandbox"`
	// Image is the image as the specification named it; ImageID and ImageRef what it was resolved to.
	Image    string `json:"image"`
	ImageID  string `json:"imageID"`
	ImageRef string `json:"imageRef"`
	LogPath  string `json:"logPath"`
	// MessagePath is the host's file of the termination message.
	MessagePath string `json:"messagePath"`
	StopSignal  string `json:"stopSignal,omitempty"`
	// PostStart says that the postStart hook has ended well.
	PostStart bool                         `json:"postStart,omitempty"`
	User      *corev1.LinuxContainerUser   `json:"user,omitempty"`
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`
}

// Files of a pod's directory that are the kubelet's own.
const (
	recordDir   = "bareboat"
	podFile     = "pod.pb"
	staticFile  = "static.pb" // in the place of podFile where the pod comes from a manifest
	sandboxFile = "sandbox"
	volumesFile = "volumes"
	grantFile   = "allocation.json"
	recordExt   = ".container.json"
	// bootAnnotation tells, in the record of a static pod, in which life of the host it ran.
	bootAnnotation = "bareboat.dev/boot-id"
)

func (a *Agent) recordPath(uid types.UID, name string) string {
	return filepath.Join(a.volumes.PodDir(uid), recordDir, name)
}

// writeFile replaces a file by rename, so that a crash leaves the old one or the new one.
func writeFile(path string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, mode); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// saveLocked writes the pod to disk if what matters of it has changed.
func (w *worker) saveLocked() {
	mark := saveMark(w.pod, w.status)
	if w.gone || w.saved == mark {
		return
	}
	p := *w.pod
	p.Status = *w.status
	if w.static {
		p.Annotations = maps.Clone(p.Annotations)
		p.Annotations[bootAnnotation] = bootID()
	}
	data, err := p.Marshal()
	if err == nil {
		name := podFile
		if w.static {
			name = staticFile
		}
		err = writeFile(w.a.recordPath(w.uid, name), data, 0o600)
	}
	if err != nil {
		w.a.Log.Error("pod was not written to disk", "pod", podKey(w.pod), "error", err)
		return
	}
	w.saved = mark
}

// saveMark is what must not differ between the pod on disk and the pod: its specification, and of its status what a restarted
// kubelet goes on from: which instances there are, and what their probes have found.
func saveMark(p *corev1.Pod, s *corev1.PodStatus) string {
	mark := fmt.Sprint(p.Generation, p.DeletionTimestamp, s.Phase, s.PodIPs)
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses} {
		for i := range list {
			c := &list[i]
			mark += fmt.Sprint(" ", c.ContainerID, c.RestartCount, c.State.Running != nil, c.State.Terminated != nil, c.Ready, c.Started != nil && *c.Started)
		}
	}
	return mark
}

func (a *Agent) saveRecord(uid types.UID, r *record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return writeFile(a.recordPath(uid, r.ID+recordExt), data, 0o600)
}

func (a *Agent) dropRecord(uid types.UID, id string) error {
	err := os.Remove(a.recordPath(uid, id+recordExt))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// readPod reads what saveLocked wrote.
func (a *Agent) readPod(uid types.UID) (p *corev1.Pod, static bool, err error) {
	data, err := os.ReadFile(a.recordPath(uid, podFile))
	if errors.Is(err, fs.ErrNotExist) {
		static = true
		data, err = os.ReadFile(a.recordPath(uid, staticFile))
	}
	if err != nil {
		return nil, false, err
	}
	p = &corev1.Pod{}
	if err := p.Unmarshal(data); err != nil {
		return nil, false, err
	}
	if static {
		if p.Annotations[bootAnnotation] != bootID() {
			p.Status = corev1.PodStatus{} // the host was started again: so is the pod, whatever it came to
		}
		delete(p.Annotations, bootAnnotation)
	}
	return p, static, nil
}

// readRecords reads all records of a pod, by container id.
func (a *Agent) readRecords(uid types.UID) (map[string]*record, error) {
	entries, err := os.ReadDir(filepath.Join(a.volumes.PodDir(uid), recordDir))
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]*record{}, nil
	}
	if err != nil {
		return nil, err
	}
	records := map[string]*record{}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), recordExt) {
			continue
		}
		data, err := os.ReadFile(a.recordPath(uid, e.Name()))
		if err != nil {
			return nil, err
		}
		r := &record{}
		if err := json.Unmarshal(data, r); err != nil {
			return nil, err
		}
		records[r.ID] = r
	}
	return records, nil
}

// logDir is the directory of a pod's logs, as the ecosystem knows it.
func (a *Agent) logDir(p *corev1.Pod) string {
	return filepath.Join(a.LogRoot, p.Namespace+"_"+p.Name+"_"+string(p.UID))
}

// removeTraces removes a pod's directory and logs.
func (a *Agent) removeTraces(p *corev1.Pod) error {
	a.unlinkLogs(p)
	return errors.Join(a.removePodDir(p.UID), os.RemoveAll(a.logDir(p)))
}

// lost is the exit of an instance whose podshim died with it.
func lost(s shim.ContainerStatus) shim.ContainerStatus {
	s.Phase = shim.Exited
	s.ExitCode = exitLost
	return s
}

// exitLost is the exit code of what was killed without a witness.
const exitLost = 137
