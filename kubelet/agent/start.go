package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/image"
	"bareboat.dev/kubelet/pod"
	"bareboat.dev/kubelet/runspec"
	"bareboat.dev/kubelet/shim"
)

// refusal is why no instance came to be, with the reason that the container's state shows.
type refusal struct {
	reason string
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func refuse(reason string, err error) error { return &refusal{reason, err} }

// startContainer makes and starts an instance.
func (w *worker) startContainer(ctx context.Context, act pod.Action) func() {
	view := w.snapshot()
	c := findContainer(view.pod, act.Container)
	if c == nil || view.sandbox == nil {
		return nil
	}
	r := &record{ID: newID(), Name: act.Container, Attempt: act.Attempt, Sandbox: view.sandboxID, Image: c.Image, Resources: c.Resources.DeepCopy()}
	status, err := w.create(ctx, view, c, r)
	switch {
	case err == nil:
		w.a.metrics.begun.WithLabelValues(containerType(view.pod, c.Name)).Inc()
		w.a.event(view.pod, corev1.EventTypeNormal, "Started", c.Name, "Started container %s", c.Name)
		return w.noteStarted(c, r, status)
	case ctx.Err() != nil || errors.Is(err, shim.ErrShimDead):
		return nil // given up, or told by the sandbox's own end
	}
	w.a.event(view.pod, corev1.EventTypeWarning, "Failed", c.Name, "Error: %v", err)
	w.a.Log.Warn("container was not started", "pod", podKey(view.pod), "container", c.Name, "error", err)
	if errors.Is(err, shim.ErrStart) {
		w.a.metrics.failed.WithLabelValues(containerType(view.pod, c.Name), "StartError").Inc()
		return w.noteStartError(r, err)
	}
	reason := "CreateContainerError"
	var refused *refusal
	if errors.As(err, &refused) {
		reason = refused.reason
	}
	w.a.metrics.failed.WithLabelValues(containerType(view.pod, c.Name), reason).Inc()
	return func() {
		w.seen.Refused[c.Name] = *failure(nil, reason, err)
		if errors.Is(err, image.ErrNotFound) {
			delete(w.seen.Images, c.Name) // it was removed after it had been found
		}
	}
}

// containerType is what metrics call a container of a pod.
func containerType(p *corev1.Pod, name string) string {
	named := func(c corev1.Container) bool { return c.Name == name }
	switch {
	case slices.ContainsFunc(p.Spec.Containers, named):
		return "container"
	case slices.ContainsFunc(p.Spec.InitContainers, named):
		return "init_container"
	}
	return "ephemeral_container"
}

// create makes an instance and starts it. If it fails nothing is left behind.
func (w *worker) create(ctx context.Context, view podView, c *corev1.Container, r *record) (status shim.ContainerStatus, err error) {
	w.mu.Lock()
	img := w.seen.Images[c.Name]
	w.mu.Unlock()
	r.ImageID, r.ImageRef = img.ID, img.Ref
	config, err := w.a.containerConfig(ctx, view, c, r)
	defer func() {
		if err != nil {
			w.undo(view.sandbox, r)
		}
	}()
	if err != nil {
		return status, err
	}
	// From here on a cancelled step must not leave an instance that nobody knows of.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startLimit)
	defer cancel()
	if err := w.a.saveRecord(w.uid, r); err != nil {
		return status, err
	}
	status.CreatedAt = time.Now()
	if err := view.sandbox.Create(ctx, config); err != nil {
		return status, err
	}
	w.a.event(view.pod, corev1.EventTypeNormal, "Created", c.Name, "Created container: %s", c.Name)
	if _, err := view.sandbox.Start(ctx, r.ID); err != nil {
		return status, err
	}
	status.StartedAt = time.Now()
	w.a.linkLog(view.pod, r)
	return status, nil
}

// startLimit bounds creating and starting one container; it is a matter of milliseconds, and of seconds on a loaded disk.
const startLimit = 2 * time.Minute

// undo removes what a failed start has made.
func (w *worker) undo(s Sandbox, r *record) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), teardownLimit)
	defer cancel()
	err := s.Delete(ctx, r.ID)
	if errors.Is(err, shim.ErrNotFound) || errors.Is(err, shim.ErrShimDead) {
		err = nil
	}
	if err := errors.Join(err, w.a.Images.Unmount(ctx, r.ID), w.a.dropRecord(w.uid, r.ID)); err != nil {
		w.a.Log.Error("half-made container was not removed", "uid", w.uid, "container", r.Name, "error", err)
	}
}

// noteStarted notes a new instance; its exit may have been told already.
func (w *worker) noteStarted(c *corev1.Container, r *record, s shim.ContainerStatus) func() {
	return func() {
		delete(w.seen.Refused, r.Name)
		w.records[r.ID] = r
		instance := w.a.instance(r, s)
		instance.State = pod.Running
		if exit, ok := w.exits[r.ID]; ok {
			noteExit(&instance, exit, w.a.terminationMessage(c, r, exit))
		}
		if s := &w.seen.Sandbox; s.ID != r.Sandbox || s.State == pod.SandboxDead {
			noteLost(&instance, time.Now()) // podshim has died since, and whoever noted that did not know of it
		}
		w.seen.Containers = append(w.seen.Containers, instance)
		w.a.cpusChanged() // they may have been given away since it was made
	}
}

// exitStartError is the exit code of an instance whose program could not be started, as in other runtimes.
const exitStartError = 128

// noteStartError notes an instance that never ran.
func (w *worker) noteStartError(r *record, err error) func() {
	return func() {
		delete(w.seen.Refused, r.Name)
		now := time.Now()
		instance := w.a.instance(r, shim.ContainerStatus{CreatedAt: now})
		instance.State, instance.ExitCode, instance.FinishedAt = pod.Exited, exitStartError, now
		instance.Reason, instance.Message = "StartError", err.Error()
		w.records[r.ID] = r
		w.seen.Containers = append(w.seen.Containers, instance)
	}
}

// instance is what is observed of an instance, from its record and its podshim's status.
func (a *Agent) instance(r *record, s shim.ContainerStatus) pod.Container {
	c := pod.Container{
		Name: r.Name, Attempt: r.Attempt, ID: r.ID, Sandbox: r.Sandbox, Image: r.Image, ImageRef: r.ImageRef, User: r.User,
		CreatedAt: s.CreatedAt, StartedAt: s.StartedAt, Resources: r.Resources, StopSignal: signalName(r.StopSignal),
	}
	if r.PostStart {
		c.PostStart = pod.HookDone
	}
	return c
}

// containerConfig gathers everything that a container is made from.
func (a *Agent) containerConfig(ctx context.Context, view podView, c *corev1.Container, r *record) (shim.ContainerConfig, error) {
	none := shim.ContainerConfig{}
	img, err := a.Images.Get(r.ImageID)
	if err != nil {
		return none, refuse("CreateContainerError", err)
	}
	env, err := runspec.Env(runspec.EnvInput{
		Pod: view.pod, Container: c, Sources: envSources{a, ctx}, Services: a.servicesOf(view.pod), Allocatable: a.Node.Allocatable(),
	})
	if err != nil {
		return none, refuse("CreateContainerConfigError", err)
	}
	if err := runspec.VerifyNonRoot(view.pod, c, img.Config); err != nil {
		return none, refuse("CreateContainerConfigError", err)
	}
	mounts, err := a.mounts(ctx, view.pod, c, env, r)
	if err != nil {
		return none, refuse("CreateContainerConfigError", err)
	}
	if ownUsers(view.pod) {
		mapOwners(mounts)
	}
	devices, err := a.blockDevices(ctx, view.pod, c)
	if err != nil {
		return none, refuse("CreateContainerConfigError", err)
	}
	granted, err := a.devicesOf(ctx, view.pod, c)
	if err != nil {
		return none, refuse("CreateContainerConfigError", err)
	}
	mounts, env = grantMounts(mounts, granted), grantEnv(env, granted)
	args, err := runspec.Args(c, img.Config, env)
	if err != nil {
		return none, refuse("CreateContainerError", err)
	}
	rootfs, err := a.mountImage(ctx, view.sandbox, img.ID, r.ID)
	if err != nil {
		return none, refuse("CreateContainerError", fmt.Errorf("root file system: %w", err))
	}
	user, err := image.ResolveUser(rootfs, runspec.UserName(view.pod, c, img.Config))
	if err != nil {
		return none, refuse("CreateContainerError", err)
	}
	in := runspec.Input{
		Pod: view.pod, Container: c, Image: img.Config, Args: args, User: user, Rootfs: rootfs, Mounts: mounts, Volumes: devices,
		Env: runspec.MergeEnv(img.Config.Env, env, a.kernelHostname(view.pod)), MemoryCapacity: a.memoryCapacity(),
		KernelCaps: a.caps, LocalhostProfile: a.localhostProfile,
	}
	if s := c.SecurityContext; s != nil && s.Privileged != nil && *s.Privileged {
		in.Devices = hostDevices()
	}
	if a.AppArmor {
		in.DefaultAppArmor = func() (string, error) { return a.profiles.Default(ctx) }
	}
	spec, err := runspec.Build(in)
	if err == nil {
		a.confine(spec, view.pod.UID, c.Name)
		err = errors.Join(a.addDevices(spec, granted), a.injectClaims(spec, view.pod, c))
	}
	if err != nil {
		return none, refuse("CreateContainerConfigError", err)
	}
	target, err := a.targetOf(view.pod, c.Name)
	if err != nil {
		return none, refuse("CreateContainerError", err)
	}
	r.User = linuxUser(user, runspec.Groups(view.pod, user))
	r.StopSignal = stopSignal(c, img)
	r.LogPath = filepath.Join(a.logDir(view.pod), c.Name, fmt.Sprintf("%d.log", r.Attempt))
	return shim.ContainerConfig{
		ID: r.ID, Name: c.Name, Attempt: uint32(r.Attempt), Spec: spec, LogPath: r.LogPath, TargetID: target,
		Stdin: c.Stdin, StdinOnce: c.StdinOnce, TTY: c.TTY,
	}, nil
}

// targetOf is the instance whose processes an ephemeral container is to see; empty if it names no container.
func (a *Agent) targetOf(p *corev1.Pod, name string) (string, error) {
	for _, e := range p.Spec.EphemeralContainers {
		if e.Name != name || e.TargetContainerName == "" {
			continue
		}
		i, err := a.Instance(p.Namespace, p.Name, e.TargetContainerName, false)
		if err != nil || !i.Running {
			return "", fmt.Errorf("unable to find target container %q", e.TargetContainerName)
		}
		return i.ID, nil
	}
	return "", nil
}

func (a *Agent) kernelHostname(p *corev1.Pod) string {
	if p.Spec.HostNetwork {
		name, _ := os.Hostname()
		return name
	}
	name, _ := runspec.KernelHostname(p, a.ClusterDomain)
	return name
}

func linuxUser(u image.User, groups []uint32) *corev1.LinuxContainerUser {
	user := &corev1.LinuxContainerUser{UID: int64(u.UID), GID: int64(u.GID)}
	user.SupplementalGroups = append(user.SupplementalGroups, int64(u.GID))
	for _, g := range groups {
		if g != u.GID {
			user.SupplementalGroups = append(user.SupplementalGroups, int64(g))
		}
	}
	return user
}

func stopSignal(c *corev1.Container, img image.Image) string {
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		return string(*c.Lifecycle.StopSignal)
	}
	return img.Config.StopSignal
}

// servicesOf are the services that a pod's environment tells of.
func (a *Agent) servicesOf(p *corev1.Pod) []*corev1.Service {
	list := a.services.ByIndex("namespace", p.Namespace)
	if p.Namespace != corev1.NamespaceDefault {
		if s, ok := a.services.Get(corev1.NamespaceDefault, "kubernetes"); ok {
			list = append(list, s)
		}
	}
	return list
}

// envSources looks objects up for environments.
type envSources struct {
	a   *Agent
	ctx context.Context
}

func (s envSources) ConfigMap(namespace, name string) (*corev1.ConfigMap, error) {
	return s.a.objects.ConfigMap(s.ctx, namespace, name)
}

func (s envSources) Secret(namespace, name string) (*corev1.Secret, error) {
	return s.a.objects.Secret(s.ctx, namespace, name)
}

// maxEnvFile bounds a file of environment variables: the kernel takes 128 KiB for one variable, and some MiB for all.
const maxEnvFile = 1 << 20

func (s envSources) File(p *corev1.Pod, volume, path string) ([]byte, error) {
	return s.a.volumes.ReadFile(p, volume, path, maxEnvFile)
}

// memoryCapacity is the node's memory in bytes.
func (a *Agent) memoryCapacity() int64 {
	capacity := a.Node.Capacity()
	return capacity.Memory().Value()
}
