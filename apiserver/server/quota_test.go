package server_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

const quotaStatus = `{"status":{"hard":{"pods":"2","requests.cpu":"1","count/configmaps":"1"},"used":{"pods":"0","requests.cpu":"0","count/configmaps":"0"}}}`

func cpuPod(name, cpu string) string {
	return fmt.Sprintf("metadata: {name: %s}\nspec: {containers: [{name: c, image: i, resources: {requests: {cpu: %q}}}]}\n", name, cpu)
}

// A quota holds a namespace to its limits through either door; what is refused or only tried uses nothing up.
func TestResourceQuota(t *testing.T) {
	pods := "v1/pods@default"
	agree(t, []write{
		{name: "quota", at: "v1/resourcequotas@default", body: "metadata: {name: q}\nspec: {hard: {pods: 2, requests.cpu: 1, count/configmaps: 1}}\n"},
		{name: "its status", verb: "patch", at: "v1/resourcequotas@default:q:status", body: quotaStatus},
		{name: "silent pod", at: pods, body: "metadata: {name: silent}\nspec: {containers: [{name: c, image: i}]}\n", code: 403,
			refused: `pods "silent" is forbidden: failed quota: q: must specify requests.cpu for: c`},
		{name: "tried", at: pods, dryRun: true, body: cpuPod("tried", "600m")},
		{name: "first", at: pods, body: cpuPod("first", "600m")},
		{name: "first again", at: pods, body: cpuPod("first", "100m"), refused: `pods "first" already exists`, code: 409},
		{name: "greedy", at: pods, body: cpuPod("greedy", "600m"), code: 403,
			refused: `pods "greedy" is forbidden: exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=600m, limited: requests.cpu=1`},
		{name: "second", at: pods, body: cpuPod("second", "400m")},
		{name: "third", at: pods, body: cpuPod("third", "0"), code: 403,
			refused: `pods "third" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2`},
		{name: "resize", verb: "patch", at: pods + ":second:resize", body: `{"spec":{"containers":[{"name":"c","image":"i","resources":{"requests":{"cpu":"500m"}}}]}}`, code: 403,
			refused: `pods "second" is forbidden: exceeded quota: q, requested: requests.cpu=100m, used: requests.cpu=1, limited: requests.cpu=1`},
		{name: "map", at: "v1/configmaps@default", body: "metadata: {name: a}\n"},
		{name: "another map", at: "v1/configmaps@default", body: "metadata: {generateName: b-}\n", refused: `is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=1, limited: count/configmaps=1`},
		{name: "usage", verb: "patch", at: "v1/resourcequotas@default:q", body: `{"metadata":{"labels":{"a":"b"}}}`,
			has: []string{`"used":{"count/configmaps":"1","pods":"2","requests.cpu":"1"}`}},
	})
}

// However many create at once, a quota is filled to the last and never exceeded, on every engine.
func TestQuotaIsNeverExceeded(t *testing.T) {
	const limit, creators = 20, 50
	for name, engine := range engines() {
		t.Run(name, func(t *testing.T) {
			h := start(t, engine(t))
			u := h.admin()
			u.rest(t, "POST", "/api/v1/namespaces/default/resourcequotas", yamlType, fmt.Sprintf("metadata: {name: q}\nspec: {hard: {count/configmaps: %d}}\n", limit))
			code, _, body := u.rest(t, "PATCH", "/api/v1/namespaces/default/resourcequotas/q/status", "application/merge-patch+json",
				fmt.Sprintf(`{"status":{"hard":{"count/configmaps":"%d"},"used":{"count/configmaps":"0"}}}`, limit))
			if code != 200 {
				t.Fatalf("%d %s", code, body)
			}
			var made atomic.Int32
			var group sync.WaitGroup
			failures := make(chan error, creators)
			for i := range creators {
				group.Go(func() {
					_, err := u.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "configmaps", "default", ""), Object: asProto(t, configMapURL, configMap(fmt.Sprintf("m-%d", i)))})
					switch {
					case err == nil:
						made.Add(1)
					case !strings.Contains(err.Error(), "exceeded quota: q"):
						failures <- err
					}
				})
			}
			group.Wait()
			close(failures)
			for err := range failures {
				t.Error(err)
			}
			q := u.quota(t)
			if used := q.Status.Used["count/configmaps"]; made.Load() != limit || used.CmpInt64(limit) != 0 {
				t.Errorf("%d made, %s used, want %d", made.Load(), used.String(), limit)
			}
		})
	}
}

// quota reads default/q.
func (u *user) quota(t *testing.T) *corev1.ResourceQuota {
	t.Helper()
	resp, err := u.Get(t.Context(), &apiv1.GetRequest{Ref: ref("", "resourcequotas", "default", "q")})
	check(t, err)
	return into(t, resp.GetObject(), &corev1.ResourceQuota{})
}

// Somebody else who writes the quota's status meanwhile, as the controller does, neither loses a charge nor stops a creator.
func TestQuotaAndItsController(t *testing.T) {
	const pods = 40
	h := start(t, engines()["sqlite"](t))
	u := h.admin()
	u.rest(t, "POST", "/api/v1/namespaces/default/resourcequotas", yamlType, "metadata: {name: q}\nspec: {hard: {count/configmaps: 1000}}\n")
	u.rest(t, "PATCH", "/api/v1/namespaces/default/resourcequotas/q/status", "application/merge-patch+json", `{"status":{"hard":{"count/configmaps":"1000"},"used":{"count/configmaps":"0"}}}`)
	stop := make(chan struct{})
	var controller sync.WaitGroup
	controller.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			q := u.quota(t)
			q.Status.Hard["pods"] = *resource.NewQuantity(int64(i), resource.DecimalSI)
			u.Update(t.Context(), &apiv1.UpdateRequest{ // a conflict is as good
				Ref:    &apiv1.ResourceRef{Resource: "resourcequotas", Namespace: "default", Name: "q", Subresource: "status"},
				Object: asProto(t, "k8s.io.api.core.v1.ResourceQuota", q),
			})
		}
	})
	var failed error
	for i := range pods {
		_, err := u.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "configmaps", "default", ""), Object: asProto(t, configMapURL,
			&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("m-%d", i)}})})
		failed = errors.Join(failed, err)
	}
	close(stop)
	controller.Wait()
	check(t, failed)
	if used := u.quota(t).Status.Used["count/configmaps"]; used.CmpInt64(pods) != 0 {
		t.Errorf("%s used, want %d", used.String(), pods)
	}
}

// A LimitRange fills in what containers leave open and refuses what is out of its bounds, through either door.
func TestLimitRange(t *testing.T) {
	agree(t, []write{
		{name: "range", at: "v1/limitranges@default", body: "metadata: {name: r}\nspec: {limits: [{type: Container, max: {cpu: 2}, min: {cpu: 100m}, default: {cpu: 1}, defaultRequest: {cpu: 200m}}]}\n"},
		{name: "open", at: "v1/pods@default", body: "metadata: {name: open}\nspec: {containers: [{name: c, image: i}]}\n",
			has: []string{`"resources":{"limits":{"cpu":"1"},"requests":{"cpu":"200m"}}`, `LimitRanger plugin set: cpu request for container c; cpu limit for container c`}},
		{name: "greedy", at: "v1/pods@default", body: "metadata: {name: greedy}\nspec: {containers: [{name: c, image: i, resources: {limits: {cpu: 3}}}]}\n", code: 403,
			refused: `pods "greedy" is forbidden: maximum cpu usage per Container is 2, but limit is 3`},
	})
}
