package manager

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"bareboat.dev/client"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

func template(app string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "v1"}}},
	}
}

func selector(app string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
}

func work(name string, completions int32) *batchv1.Job {
	t := template(name)
	t.Spec.RestartPolicy = corev1.RestartPolicyNever
	limit := int32(6)
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
		Spec:       batchv1.JobSpec{Parallelism: &completions, Completions: &completions, BackoffLimit: &limit, Selector: selector(name), Template: t},
	}
}

// Numbered pods come up in order with their claims, and a budget and a quota follow them.
func TestStatefulSet(t *testing.T) {
	c := start(t)
	c.namespace("ns")
	three, two := int32(3), intstr.FromInt32(2)
	create(c, client.PodDisruptionBudgets(), &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db"}, Spec: policyv1.PodDisruptionBudgetSpec{Selector: selector("db"), MinAvailable: &two}})
	create(c, client.ResourceQuotas(), &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{
		"pods": resource.MustParse("10"), "count/statefulsets.apps": resource.MustParse("10"),
	}}})
	create(c, client.StatefulSets(), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &three, ServiceName: "db", Selector: selector("db"), Template: template("db"),
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}},
		},
	})
	eventually(c, client.StatefulSets(), "ns", "three ready", func(s []*appsv1.StatefulSet) bool { return len(s) == 1 && s[0].Status.ReadyReplicas == 3 })
	eventually(c, client.PersistentVolumeClaims(), "ns", "three claims", func(p []*corev1.PersistentVolumeClaim) bool { return len(p) == 3 })
	eventually(c, client.PodDisruptionBudgets(), "ns", "one may go", func(b []*policyv1.PodDisruptionBudget) bool {
		return len(b) == 1 && b[0].Status.DisruptionsAllowed == 1 && b[0].Status.CurrentHealthy == 3
	})
	eventually(c, client.ResourceQuotas(), "ns", "recounted", func(q []*corev1.ResourceQuota) bool {
		pods := q[0].Status.Used["pods"]
		return pods.Value() == 3
	})
}

// Every node gets its daemon, a new one too.
func TestDaemonSet(t *testing.T) {
	c := start(t)
	c.namespace("ns")
	node := func(name string) {
		create(c, client.Nodes(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}})
	}
	node("node")
	create(c, client.DaemonSets(), &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "agent"}, Spec: appsv1.DaemonSetSpec{Selector: selector("agent"), Template: template("agent")}})
	available := func(n int32) func(d []*appsv1.DaemonSet) bool {
		return func(d []*appsv1.DaemonSet) bool {
			return len(d) == 1 && d[0].Status.NumberAvailable == n && d[0].Status.DesiredNumberScheduled == n
		}
	}
	eventually(c, client.DaemonSets(), "ns", "one", available(1))
	node("other")
	eventually(c, client.DaemonSets(), "ns", "two", available(2))
}

// Jobs complete, are removed when their time is over, and are made by their schedule; their pods let go of the finalizer also when
// the Job is gone.
func TestJobs(t *testing.T) {
	c := start(t)
	c.namespace("ns")
	ttl := int32(0)
	short := work("short", 2)
	short.Spec.TTLSecondsAfterFinished = &ttl
	create(c, client.Jobs(), work("long", 5))
	create(c, client.Jobs(), short)
	eventually(c, client.Jobs(), "ns", "one done, one gone", func(jobs []*batchv1.Job) bool {
		return len(jobs) == 1 && jobs[0].Name == "long" && jobs[0].Status.Succeeded == 5 && jobs[0].Status.CompletionTime != nil
	})
	eventually(c, client.Pods(), "ns", "pods of one", func(p []*corev1.Pod) bool { return len(p) == 5 && len(p[0].Finalizers) == 0 })
	if err := client.Of(c.c, client.Jobs()).Delete(c.ctx, "ns", "long", client.DeleteOptions{Propagation: client.PropagateBackground}); err != nil {
		t.Fatal(err)
	}
	eventually(c, client.Pods(), "ns", "no pods", func(p []*corev1.Pod) bool { return len(p) == 0 })

	last := metav1.NewTime(time.Now().Add(-2 * time.Minute))
	create(c, client.CronJobs(), &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "tick"},
		Spec:       batchv1.CronJobSpec{Schedule: "* * * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: work("tick", 1).Spec}},
	})
	// As if it had run two minutes ago, so that it is due now.
	patch := fmt.Appendf(nil, `{"status":{"lastScheduleTime":%q}}`, last.UTC().Format(time.RFC3339))
	if _, err := client.Of(c.c, client.CronJobs()).Patch(c.ctx, "ns", "tick", client.MergePatch, patch, client.PatchOptions{Subresource: "status"}); err != nil {
		t.Fatal(err)
	}
	eventually(c, client.CronJobs(), "ns", "scheduled and done", func(cj []*batchv1.CronJob) bool {
		return len(cj) == 1 && cj[0].Status.LastSuccessfulTime != nil && cj[0].Status.LastScheduleTime.After(last.Time) && len(cj[0].Status.Active) == 0
	})
}

// An expired bootstrap token goes.
func TestTokens(t *testing.T) {
	c := start(t)
	create(c, client.Secrets(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-abcdef"}, Type: corev1.SecretTypeBootstrapToken,
		Data: map[string][]byte{"expiration": []byte(time.Now().Add(-time.Hour).Format(time.RFC3339))},
	})
	eventually(c, client.Secrets(), "kube-system", "no token", func(s []*corev1.Secret) bool { return len(s) == 0 })
}

// A pod that the API refuses is named, with the reason, in an event of what should have made it, whatever that is.
func TestRefusedPodsAreTold(t *testing.T) {
	c := start(t)
	c.namespace("ns")
	c.s.Fail(func(method string, ref *apiv1.ResourceRef) error {
		if ref.GetResource() == "pods" && (method == "Create" || method == "Batch") {
			return status.Error(codes.PermissionDenied, "exceeded quota")
		}
		return nil
	})
	one := int32(1)
	create(c, client.Nodes(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}})
	create(c, client.ReplicaSets(), &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "set"}, Spec: appsv1.ReplicaSetSpec{Replicas: &one, Selector: selector("set"), Template: template("set")}})
	create(c, client.StatefulSets(), &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db"}, Spec: appsv1.StatefulSetSpec{Replicas: &one, Selector: selector("db"), Template: template("db")}})
	create(c, client.DaemonSets(), &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "agent"}, Spec: appsv1.DaemonSetSpec{Selector: selector("agent"), Template: template("agent")}})
	create(c, client.Jobs(), work("job", 1))
	for name, prefix := range map[string]string{
		"set": "Error creating: ", "db": "create Pod db-0 in StatefulSet db failed error: ", "agent": "Error creating: ", "job": "Error creating: ",
	} {
		eventually(c, client.Events(), "ns", "an event of "+name, func(events []*corev1.Event) bool {
			return slices.ContainsFunc(events, func(ev *corev1.Event) bool {
				return ev.InvolvedObject.Name == name && ev.Reason == "FailedCreate" && strings.HasPrefix(ev.Message, prefix) && strings.HasSuffix(ev.Message, "exceeded quota")
			})
		})
	}
}

// An object that a quota counts by its kind, of whatever kind, is taken off when it goes, at once.
func TestQuotaFollowsWhatItCounts(t *testing.T) {
	c := start(t)
	c.namespace("ns")
	zero := int32(0)
	create(c, client.ReplicaSets(), &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "set"}, Spec: appsv1.ReplicaSetSpec{Replicas: &zero, Selector: selector("set"), Template: template("set")}})
	create(c, client.ResourceQuotas(), &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"count/replicasets.apps": resource.MustParse("1")}}})
	used := func(n int64) func([]*corev1.ResourceQuota) bool {
		return func(q []*corev1.ResourceQuota) bool {
			sum, ok := q[0].Status.Used["count/replicasets.apps"]
			return ok && sum.Value() == n
		}
	}
	eventually(c, client.ResourceQuotas(), "ns", "one is used", used(1))
	if err := client.Of(c.c, client.ReplicaSets()).Delete(c.ctx, "ns", "set", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(c, client.ResourceQuotas(), "ns", "none is used", used(0))
}
