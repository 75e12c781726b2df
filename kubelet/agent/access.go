package agent

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/pod"
)

// Errors of access to pods, to be matched with errors.Is.
var (
	// ErrNotFound: this node runs no such pod, or the pod has no such container.
	ErrNotFound = errors.New("not found")
	// ErrInvalid: the request is ambiguous, or makes no sense in the container's state.
	ErrInvalid = errors.New("invalid")
)

// said is an error of one of the kinds above in exactly the words that the API's users know, which a prefix would spoil.
type said struct {
	kind error
	text string
}

func (e *said) Error() string { return e.text }
func (e *said) Unwrap() error { return e.kind }

func say(kind error, format string, args ...any) error {
	return &said{kind, fmt.Sprintf(format, args...)}
}

// Instance is one instance of a container, for those who reach into it.
type Instance struct {
	ID, Name string
	LogPath  string
	Running  bool
	// TTY and Stdin are as the container's specification has them.
	TTY, Stdin bool
	// Exited is closed when it has ended.
	Exited  <-chan struct{}
	Sandbox Sandbox
}

// defaultContainer is the annotation that names the container meant where none is named.
const defaultContainer = "kubectl.kubernetes.io/default-container"

// Instance finds the newest instance of a container, or with previous the one before it. An empty container name means
// the pod's only container, or the one that an annotation names.
func (a *Agent) Instance(namespace, name, container string, previous bool) (Instance, error) {
	w, err := a.find(namespace, name)
	if err != nil {
		return Instance{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	c, err := chooseContainer(w.pod, container)
	if err != nil {
		return Instance{}, err
	}
	found := newest(w.seen.Containers, c.Name)
	if previous && found != nil {
		found = before(w.seen.Containers, found)
		if found == nil {
			return Instance{}, say(ErrInvalid, "previous terminated container %q in pod %q not found", c.Name, name)
		}
	}
	if found == nil {
		return w.withoutInstanceLocked(c, previous)
	}
	i := Instance{ID: found.ID, Name: c.Name, Running: found.State == pod.Running, TTY: c.TTY, Stdin: c.Stdin, Sandbox: w.sandbox,
		Exited: w.exitedLocked(found.ID)}
	if r := w.records[found.ID]; r != nil {
		i.LogPath = r.LogPath
	}
	return i, nil
}

// withoutInstanceLocked finds the log of a pod that has ended before this kubelet started, or says what a container waits for.
func (w *worker) withoutInstanceLocked(c *corev1.Container, previous bool) (Instance, error) {
	attempt, ok := reportedAttempt(w.pod, c.Name)
	if previous {
		if attempt--; !ok || attempt < 0 {
			return Instance{}, say(ErrInvalid, "previous terminated container %q in pod %q not found", c.Name, w.pod.Name)
		}
	}
	if ok && attempt >= 0 {
		closed := make(chan struct{})
		close(closed)
		return Instance{Name: c.Name, LogPath: fmt.Sprintf("%s/%s/%d.log", w.a.logDir(w.pod), c.Name, attempt), Exited: closed}, nil
	}
	reason := "ContainerCreating"
	if w.status != nil {
		for _, list := range [][]corev1.ContainerStatus{w.status.InitContainerStatuses, w.status.ContainerStatuses} {
			if r := waitingReason(list, c.Name); r != "" {
				reason = r
			}
		}
	}
	return Instance{}, say(ErrInvalid, "container %q in pod %q is waiting to start: %s", c.Name, w.pod.Name, explain(reason))
}

// explain says in words what the two commonest reasons mean.
func explain(reason string) string {
	switch reason {
	case "ErrImagePull":
		return "image can't be pulled"
	case "ImagePullBackOff":
		return "trying and failing to pull image"
	}
	return reason
}

// reportedAttempt is the number of the instance that the API was last told of.
func reportedAttempt(p *corev1.Pod, name string) (int, bool) {
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].Name == name && list[i].ContainerID != "" {
				return int(list[i].RestartCount), true
			}
		}
	}
	return 0, false
}

func newest(all []pod.Container, name string) *pod.Container {
	var found *pod.Container
	for i := range all {
		if all[i].Name == name && (found == nil || all[i].Attempt > found.Attempt) {
			found = &all[i]
		}
	}
	return found
}

func before(all []pod.Container, than *pod.Container) *pod.Container {
	var found *pod.Container
	for i := range all {
		if c := &all[i]; c.Name == than.Name && c.Attempt < than.Attempt && (found == nil || c.Attempt > found.Attempt) {
			found = c
		}
	}
	return found
}

func chooseContainer(p *corev1.Pod, name string) (*corev1.Container, error) {
	if name == "" {
		name = p.Annotations[defaultContainer]
	}
	if name == "" {
		if len(p.Spec.Containers) != 1 {
			return nil, say(ErrInvalid, "a container name must be specified for pod %s, choose one of: %s", p.Name, choices(p))
		}
		return &p.Spec.Containers[0], nil
	}
	if c := findContainer(p, name); c != nil {
		return c, nil
	}
	return nil, say(ErrInvalid, "container %s is not valid for pod %s", name, p.Name)
}

// choices names the pod's containers.
func choices(p *corev1.Pod) string {
	names := func(list []corev1.Container) string {
		var all []string
		for i := range list {
			all = append(all, list[i].Name)
		}
		return "[" + strings.Join(all, " ") + "]"
	}
	text := names(p.Spec.Containers)
	if len(p.Spec.InitContainers) > 0 {
		text += " or one of the init containers: " + names(p.Spec.InitContainers)
	}
	return text
}

// SandboxOf returns a pod's sandbox and addresses.
func (a *Agent) SandboxOf(namespace, name string) (sandbox Sandbox, addresses []string, err error) {
	w, err := a.find(namespace, name)
	if err != nil {
		return nil, nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sandbox == nil {
		return nil, nil, say(ErrInvalid, "pod %q is not running", name)
	}
	return w.sandbox, slices.Clone(w.seen.Sandbox.IPs), nil
}

func (a *Agent) find(namespace, name string) (*worker, error) {
	for _, w := range a.all() {
		w.mu.Lock()
		match := w.pod.Namespace == namespace && w.pod.Name == name && !w.gone
		w.mu.Unlock()
		if match {
			return w, nil
		}
	}
	return nil, say(ErrNotFound, "pod %q not found on this node", namespace+"/"+name)
}

// exitedLocked returns a channel that is closed when the instance has ended.
func (w *worker) exitedLocked(id string) <-chan struct{} {
	for i := range w.seen.Containers {
		if w.seen.Containers[i].ID == id && w.seen.Containers[i].State != pod.Exited {
			if w.waiters[id] == nil {
				w.waiters[id] = make(chan struct{})
			}
			return w.waiters[id]
		}
	}
	closed := make(chan struct{})
	close(closed)
	return closed
}

// tellExitsLocked closes the channels of the instances that have ended or are no more.
func (w *worker) tellExitsLocked() {
	if len(w.waiters) == 0 {
		return
	}
	live := map[string]bool{}
	for _, c := range w.seen.Containers {
		live[c.ID] = c.State != pod.Exited
	}
	for id, ch := range w.waiters {
		if !live[id] {
			close(ch)
			delete(w.waiters, id)
		}
	}
}

// Running is a container that runs, for who measures it.
type Running struct {
	Namespace, Pod, UID string
	Container, ID       string
	// Image is its name as the pod has it.
	Image   string
	Started time.Time
	// PodStarted is when the kubelet first saw the pod.
	PodStarted time.Time
	// PodDir and LogDir are the pod's folder with its volumes and the container's with its logs.
	PodDir, LogDir string
	// LogPath is the log that it writes now.
	LogPath string
	// Claims are the claims behind the pod's volumes, by the volume's name.
	Claims  map[string]string
	Sandbox Sandbox
}

// RunningContainers lists the containers that run, of one pod if one is named.
func (a *Agent) RunningContainers(namespace, name string) []Running {
	var list []Running
	for _, w := range a.all() {
		w.mu.Lock()
		if name == "" && namespace == "" || w.pod.Namespace == namespace && (name == "" || w.pod.Name == name) {
			common := Running{Namespace: w.pod.Namespace, Pod: w.pod.Name, UID: string(w.uid), PodDir: a.volumes.PodDir(w.uid),
				Claims: claims(w.pod), Sandbox: w.sandbox}
			if w.status != nil && w.status.StartTime != nil {
				common.PodStarted = w.status.StartTime.Time
			}
			for _, c := range w.seen.Containers {
				if c.State == pod.Running && w.sandbox != nil {
					r := common
					r.Container, r.ID, r.Image, r.Started = c.Name, c.ID, c.Image, c.StartedAt
					r.LogDir = filepath.Join(a.logDir(w.pod), c.Name)
					if rec := w.records[c.ID]; rec != nil {
						r.LogPath = rec.LogPath
					}
					list = append(list, r)
				}
			}
		}
		w.mu.Unlock()
	}
	return list
}

// claims are the claims of a pod's volumes, by the volume's name.
func claims(p *corev1.Pod) map[string]string {
	var all map[string]string
	for i := range p.Spec.Volumes {
		if v := &p.Spec.Volumes[i]; v.PersistentVolumeClaim != nil || v.Ephemeral != nil {
			if all == nil {
				all = map[string]string{}
			}
			all[v.Name] = p.Name + "-" + v.Name
			if c := v.PersistentVolumeClaim; c != nil {
				all[v.Name] = c.ClaimName
			}
		}
	}
	return all
}

// UsesImage says whether a pod of this node uses the image of that id.
func (a *Agent) UsesImage(id string) bool {
	for _, w := range a.all() {
		w.mu.Lock()
		used := false
		for _, img := range w.seen.Images {
			used = used || img.ID == id
		}
		for _, r := range w.records {
			used = used || r.ImageID == id
		}
		w.mu.Unlock()
		if used {
			return true
		}
	}
	return false
}
