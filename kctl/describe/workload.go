package describe

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func number[T any](p *T, unset any) any {
	if p == nil {
		return unset
	}
	return *p
}

func (p *printer) deployment(d *appsv1.Deployment, rel Related) {
	p.line(0, "Selector", "%s", metav1.FormatLabelSelector(d.Spec.Selector))
	st := d.Status
	p.line(0, "Replicas", "%d desired | %d updated | %d total | %d available | %d unavailable",
		number(d.Spec.Replicas, 1), st.UpdatedReplicas, st.Replicas, st.AvailableReplicas, st.UnavailableReplicas)
	strategy := string(d.Spec.Strategy.Type)
	if r := d.Spec.Strategy.RollingUpdate; r != nil {
		strategy += fmt.Sprintf(", %s max unavailable, %s max surge", percent(r.MaxUnavailable), percent(r.MaxSurge))
	}
	p.line(0, "Strategy", "%s", strategy)
	if d.Spec.Paused {
		p.line(0, "Paused", "yes; `kctl rollout resume` lets it go on")
	}
	p.template(d.Spec.Template)
	var rows [][]string
	for _, c := range st.Conditions {
		rows = append(rows, []string{string(c.Type), string(c.Status), c.Reason, c.Message})
	}
	p.table("Conditions", []string{"Type", "Status", "Reason", "Message"}, rows)
	rows = nil
	for _, rs := range rel.ReplicaSets {
		rows = append(rows, []string{
			rs.Name, rs.Annotations["deployment.kubernetes.io/revision"], fmt.Sprintf("%d/%d", rs.Status.ReadyReplicas, number(rs.Spec.Replicas, 1)),
			duration.HumanDuration(p.now.Sub(rs.CreationTimestamp.Time)), images(rs.Spec.Template.Spec),
		})
	}
	p.table("ReplicaSets", []string{"Name", "Revision", "Ready", "Age", "Images"}, rows)
	p.podTable(rel.Pods)
}

func percent(v *intstr.IntOrString) string {
	if v == nil {
		return "<unset>"
	}
	return v.String()
}

func images(spec corev1.PodSpec) string {
	var out []string
	for _, c := range spec.Containers {
		out = append(out, c.Image)
	}
	return strings.Join(out, ",")
}

func (p *printer) replicaSet(rs *appsv1.ReplicaSet, rel Related) {
	p.line(0, "Selector", "%s", metav1.FormatLabelSelector(rs.Spec.Selector))
	p.line(0, "Replicas", "%d current / %d desired, %d ready", rs.Status.Replicas, number(rs.Spec.Replicas, 1), rs.Status.ReadyReplicas)
	p.template(rs.Spec.Template)
	var rows [][]string
	for _, c := range rs.Status.Conditions {
		rows = append(rows, []string{string(c.Type), string(c.Status), c.Reason, c.Message})
	}
	p.table("Conditions", []string{"Type", "Status", "Reason", "Message"}, rows)
	p.podTable(rel.Pods)
}

func (p *printer) statefulSet(s *appsv1.StatefulSet, rel Related) {
	p.line(0, "Selector", "%s", metav1.FormatLabelSelector(s.Spec.Selector))
	p.line(0, "Service", "%s", orNone(s.Spec.ServiceName))
	p.line(0, "Replicas", "%d desired | %d updated | %d total | %d ready", number(s.Spec.Replicas, 1), s.Status.UpdatedReplicas, s.Status.Replicas, s.Status.ReadyReplicas)
	p.line(0, "Update Strategy", "%s", s.Spec.UpdateStrategy.Type)
	p.line(0, "Pod Management", "%s", s.Spec.PodManagementPolicy)
	p.template(s.Spec.Template)
	for _, c := range s.Spec.VolumeClaimTemplates {
		p.line(0, "Volume Claim", "%s, %s", c.Name, c.Spec.Resources.Requests.Storage())
	}
	p.podTable(rel.Pods)
}

func (p *printer) daemonSet(d *appsv1.DaemonSet, rel Related) {
	p.line(0, "Selector", "%s", metav1.FormatLabelSelector(d.Spec.Selector))
	st := d.Status
	p.line(0, "Nodes", "%d desired | %d scheduled | %d up-to-date | %d ready | %d misscheduled",
		st.DesiredNumberScheduled, st.CurrentNumberScheduled, st.UpdatedNumberScheduled, st.NumberReady, st.NumberMisscheduled)
	p.line(0, "Update Strategy", "%s", d.Spec.UpdateStrategy.Type)
	p.template(d.Spec.Template)
	p.podTable(rel.Pods)
}

func (p *printer) job(j *batchv1.Job, rel Related) {
	p.line(0, "Selector", "%s", metav1.FormatLabelSelector(j.Spec.Selector))
	p.line(0, "Completions", "%d of %v", j.Status.Succeeded, number(j.Spec.Completions, "<unset>"))
	p.line(0, "Parallelism", "%v", number(j.Spec.Parallelism, 1))
	p.line(0, "Backoff Limit", "%v", number(j.Spec.BackoffLimit, 6))
	p.line(0, "Pods", "%d active | %d succeeded | %d failed", j.Status.Active, j.Status.Succeeded, j.Status.Failed)
	if j.Status.StartTime != nil {
		end := p.now
		if j.Status.CompletionTime != nil {
			end = j.Status.CompletionTime.Time
		}
		p.line(0, "Duration", "%s", duration.HumanDuration(end.Sub(j.Status.StartTime.Time)))
	}
	p.template(j.Spec.Template)
	var rows [][]string
	for _, c := range j.Status.Conditions {
		rows = append(rows, []string{string(c.Type), string(c.Status), c.Reason, c.Message})
	}
	p.table("Conditions", []string{"Type", "Status", "Reason", "Message"}, rows)
	p.podTable(rel.Pods)
}

// template is the part of a pod template that tells one workload from another; the labels are its selector's or more.
func (p *printer) template(t corev1.PodTemplateSpec) {
	p.line(0, "Pod Template", "")
	p.pairs(1, "Labels", t.Labels)
	if len(t.Annotations) > 0 {
		p.pairs(1, "Annotations", t.Annotations)
	}
	if t.Spec.ServiceAccountName != "" {
		p.line(1, "Service Account", "%s", t.Spec.ServiceAccountName)
	}
	for _, list := range []struct {
		title      string
		containers []corev1.Container
	}{{"Init Containers", t.Spec.InitContainers}, {"Containers", t.Spec.Containers}} {
		if len(list.containers) == 0 {
			continue
		}
		p.line(1, list.title, "")
		for _, c := range list.containers {
			p.line(2, c.Name, "")
			p.line(3, "Image", "%s", c.Image)
			p.containerSpec(3, c)
		}
	}
	p.volumes(1, t.Spec.Volumes)
	if len(t.Spec.NodeSelector) > 0 {
		p.pairs(1, "Node-Selectors", t.Spec.NodeSelector)
	}
	if len(t.Spec.Tolerations) > 0 {
		p.line(1, "Tolerations", "%s", tolerations(t.Spec.Tolerations))
	}
}

// podTable lists a workload's pods, those that are not ready first: that is what a description is mostly asked for.
func (p *printer) podTable(pods []*corev1.Pod) {
	var ready, rest [][]string
	for _, pod := range pods {
		n, restarts := 0, int32(0)
		for _, c := range pod.Status.ContainerStatuses {
			if c.Ready {
				n++
			}
			restarts += c.RestartCount
		}
		row := []string{
			pod.Name, fmt.Sprintf("%d/%d", n, len(pod.Spec.Containers)), state(pod), fmt.Sprint(restarts),
			duration.HumanDuration(p.now.Sub(pod.CreationTimestamp.Time)), orNone(pod.Spec.NodeName),
		}
		if n == len(pod.Spec.Containers) {
			ready = append(ready, row)
		} else {
			rest = append(rest, row)
		}
	}
	p.table("Pods", []string{"Name", "Ready", "Status", "Restarts", "Age", "Node"}, append(rest, ready...))
}

// state is the one word that tells most about a pod.
func state(pod *corev1.Pod) string {
	if pod.DeletionTimestamp != nil {
		return "Terminating"
	}
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, c := range list {
			if w := c.State.Waiting; w != nil && w.Reason != "" {
				return w.Reason
			}
			if t := c.State.Terminated; t != nil && t.ExitCode != 0 {
				return t.Reason
			}
		}
	}
	if pod.Status.Reason != "" {
		return pod.Status.Reason
	}
	return string(pod.Status.Phase)
}

// table writes an indented table; without rows it says <none>.
func (p *printer) table(title string, columns []string, rows [][]string) {
	if len(rows) == 0 {
		p.line(0, title, "<none>")
		return
	}
	p.line(0, title, "")
	p.flush()
	rule := make([]string, len(columns))
	for i, c := range columns {
		rule[i] = strings.Repeat("-", len(c))
	}
	for _, row := range append([][]string{columns, rule}, rows...) {
		fmt.Fprintf(p.tw, "  %s\n", strings.Join(row, "\t"))
	}
	p.flush()
}
