package agent

import (
	"context"
	"errors"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/kubelet/manifest"
)

// SetStatic makes the node's static pods exactly these. It may be called from when the agent runs and has adopted the pods of
// an earlier run. A pod that takes the place of another of its name starts when nothing is left of that one.
func (a *Agent) SetStatic(pods []*corev1.Pod) {
	a.mu.Lock()
	a.manifests = make(map[string]*corev1.Pod, len(pods))
	for _, p := range pods {
		a.manifests[podKey(p)] = p
	}
	var ending []*worker
	for _, w := range a.workers {
		if want := a.manifests[w.key]; w.static && (want == nil || want.UID != w.uid) {
			ending = append(ending, w)
		}
	}
	for _, p := range pods {
		a.startStaticLocked(podKey(p))
	}
	a.mu.Unlock()
	for _, w := range ending {
		w.setGone()
	}
}

// startStaticLocked starts the static pod of that name, if there is to be one and none is left of an earlier one.
func (a *Agent) startStaticLocked(key string) {
	p := a.manifests[key]
	if p == nil || a.ctx.Err() != nil {
		return
	}
	for _, w := range a.workers {
		if w.static && w.key == key {
			return
		}
	}
	w := newWorker(a, p)
	w.static = true
	if m, ok := a.pods.Get(p.Namespace, p.Name); ok && mirrors(m, w) {
		w.mirror = m
	}
	a.beginLocked(w, p)
	a.Log.Info("static pod started", "pod", key, "uid", p.UID)
	a.mirrorsNudge()
}

// mirrors says whether a pod of the API shows a static pod as it is.
func mirrors(p *corev1.Pod, w *worker) bool {
	return manifest.IsMirror(p) && p.Annotations[corev1.MirrorPodAnnotationKey] == string(w.uid) && p.DeletionTimestamp == nil
}

// mirrorChanged takes in what the API has in a static pod's name; nil if it has nothing.
func (a *Agent) mirrorChanged(key string, p *corev1.Pod) {
	for _, w := range a.all() {
		if !w.static || w.key != key {
			continue
		}
		if p != nil && mirrors(p, w) {
			w.setMirror(p)
		} else {
			w.setMirror(nil)
		}
	}
	a.mirrorsNudge()
}

// setMirror takes in the pod that shows this static one in the API; nil if there is none.
func (w *worker) setMirror(p *corev1.Pod) {
	w.mu.Lock()
	had := w.mirror
	w.mirror = p
	w.mu.Unlock()
	if p == nil || had != nil && had.UID != p.UID {
		w.a.writer.forget(w)
	}
	if p != nil {
		w.a.writer.observed(w, p)
	}
	w.nudge()
}

// unknown notes that the API does not have the pod of that UID.
func (w *worker) unknown(p *corev1.Pod) {
	if !w.static {
		w.setGone()
		return
	}
	w.mu.Lock()
	if w.mirror != nil && w.mirror.UID == p.UID {
		w.mirror = nil
	}
	w.mu.Unlock()
	w.a.writer.forget(w)
	w.a.mirrorsNudge()
}

func (a *Agent) mirrorsNudge() {
	select {
	case a.mirrorKick <- struct{}{}:
	default:
	}
}

// NodeChanged tells the agent that its Node's object was registered or made anew: mirror pods belong to it.
func (a *Agent) NodeChanged() { a.mirrorsNudge() }

// The pauses after a failed write of mirror pods: the cause may be a namespace that is yet to be made.
const (
	mirrorRetryFirst = time.Second
	mirrorRetryMax   = time.Minute
)

// runMirrors keeps mirror pods until ctx ends.
func (a *Agent) runMirrors(ctx context.Context) error {
	if err := a.pods.WaitSynced(ctx); err != nil {
		return nil // only the end of ctx ends the wait
	}
	pause := mirrorRetryFirst
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	for {
		err := a.syncMirrors(ctx)
		retry.Stop()
		if err != nil && ctx.Err() == nil {
			a.Log.Warn("mirror pods were not written", "error", err)
			retry.Reset(pause)
			pause = min(2*pause, mirrorRetryMax)
		} else {
			pause = mirrorRetryFirst
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.mirrorKick:
		case <-retry.C:
		}
	}
}

func (a *Agent) syncMirrors(ctx context.Context) error {
	var static []*corev1.Pod
	for _, w := range a.all() {
		if w.static {
			w.mu.Lock()
			static = append(static, w.pod)
			w.mu.Unlock()
		}
	}
	create, remove := planMirrors(static, a.pods.List())
	pods := client.Of(a.Client, client.Pods())
	var all error
	for _, p := range remove {
		now := int64(0)
		err := pods.Delete(ctx, p.Namespace, p.Name, client.DeleteOptions{GracePeriodSeconds: &now, UID: string(p.UID)})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			all = errors.Join(all, err)
		}
	}
	node := a.Node.Object()
	if node == nil {
		return all // NodeChanged will be called
	}
	for _, p := range create {
		_, err := pods.Create(ctx, mirrorOf(p, metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: a.NodeName, UID: node.UID}))
		switch {
		case err == nil:
			a.Log.Info("mirror pod created", "pod", podKey(p))
		case !apierrors.IsAlreadyExists(err): // the watch is behind, and will tell
			all = errors.Join(all, err)
		}
	}
	return all
}

// planMirrors says which mirror pods are missing and which must go: those of no static pod, those of an earlier manifest, and
// those that somebody deletes. A pod that is to be replaced is created when the old one is seen to be gone.
func planMirrors(static, inAPI []*corev1.Pod) (create, remove []*corev1.Pod) {
	want, have := map[string]*corev1.Pod{}, map[string]bool{}
	for _, p := range static {
		want[podKey(p)] = p
	}
	for _, m := range inAPI {
		key := podKey(m)
		have[key] = true
		if !manifest.IsMirror(m) {
			continue
		}
		p := want[key]
		if p == nil || m.Annotations[corev1.MirrorPodAnnotationKey] != string(p.UID) || m.DeletionTimestamp != nil {
			remove = append(remove, m)
		}
	}
	for _, p := range static {
		if !have[podKey(p)] {
			create = append(create, p)
		}
	}
	return create, remove
}

// mirrorOf is the pod that shows a static one in the API.
func mirrorOf(p *corev1.Pod, owner metav1.OwnerReference) *corev1.Pod {
	controller := true
	owner.Controller = &controller
	m := &corev1.Pod{Spec: *p.Spec.DeepCopy()}
	m.Name, m.Namespace, m.Labels = p.Name, p.Namespace, p.Labels
	m.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: string(p.UID)}
	for k, v := range p.Annotations {
		m.Annotations[k] = v
	}
	m.OwnerReferences = []metav1.OwnerReference{owner}
	return m
}

// WatchManifests runs the static pods of a directory until ctx ends; none if dir is empty. bad is told of files that are none.
func (a *Agent) WatchManifests(ctx context.Context, dir string, bad func(manifest.Problem)) error {
	if err := a.WaitAdopted(ctx); err != nil {
		return nil // only the end of ctx ends the wait
	}
	if dir == "" {
		a.SetStatic(nil) // an earlier kubelet may have had some
		return nil
	}
	return manifest.Watch(ctx, a.Watches, dir, a.NodeName, func(pods []*corev1.Pod, problems []manifest.Problem) {
		for _, p := range problems {
			a.Log.LogAttrs(ctx, slog.LevelError, "static pod manifest is not used", slog.String("file", p.File), slog.Any("error", p.Err))
			bad(p)
		}
		a.SetStatic(pods)
	})
}
