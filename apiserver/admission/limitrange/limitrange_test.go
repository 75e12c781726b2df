package limitrange

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"bareboat.dev/apiserver/registry"
)

func list(pairs ...string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

func rangeOf(items ...corev1.LimitRangeItem) *corev1.LimitRange {
	return &corev1.LimitRange{Spec: corev1.LimitRangeSpec{Limits: items}}
}

func pod(containers ...corev1.Container) *corev1.Pod {
	return &corev1.Pod{Spec: corev1.PodSpec{Containers: containers}}
}

func container(name string, requests, limits corev1.ResourceList) corev1.Container {
	return corev1.Container{Name: name, Resources: corev1.ResourceRequirements{Requests: requests, Limits: limits}}
}

// TestCheck shows what is out of which bounds, in Kubernetes' words.
func TestCheck(t *testing.T) {
	const c, p, v = corev1.LimitTypeContainer, corev1.LimitTypePod, corev1.LimitTypePersistentVolumeClaim
	one := func(requests, limits corev1.ResourceList) *corev1.Pod { return pod(container("c", requests, limits)) }
	claim := &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{Resources: corev1.VolumeResourceRequirements{Requests: list("storage", "5Gi")}}}
	tests := map[string]struct {
		limit corev1.LimitRangeItem
		obj   registry.Object
		want  string
	}{
		"within":            {corev1.LimitRangeItem{Type: c, Min: list("cpu", "100m"), Max: list("cpu", "2"), MaxLimitRequestRatio: list("cpu", "4")}, one(list("cpu", "500m"), list("cpu", "2")), ""},
		"request too small": {corev1.LimitRangeItem{Type: c, Min: list("cpu", "100m")}, one(list("cpu", "50m"), nil), "minimum cpu usage per Container is 100m, but request is 50m"},
		"no request":        {corev1.LimitRangeItem{Type: c, Min: list("cpu", "100m")}, one(nil, nil), "minimum cpu usage per Container is 100m.  No request is specified"},
		"limit too great":   {corev1.LimitRangeItem{Type: c, Max: list("memory", "1Gi")}, one(nil, list("memory", "2Gi")), "maximum memory usage per Container is 1Gi, but limit is 2Gi"},
		"request too great": {corev1.LimitRangeItem{Type: c, Max: list("memory", "1Gi")}, one(list("memory", "2Gi"), list("memory", "1Gi")), "maximum memory usage per Container is 1Gi, but request is 2Gi"},
		"no limit":          {corev1.LimitRangeItem{Type: c, Max: list("memory", "1Gi")}, one(nil, nil), "maximum memory usage per Container is 1Gi.  No limit is specified"},
		"ratio":             {corev1.LimitRangeItem{Type: c, MaxLimitRequestRatio: list("cpu", "1500m")}, one(list("cpu", "1"), list("cpu", "2")), "cpu max limit to request ratio per Container is 1500m, but provided ratio is 2.000000"},
		"ratio of nothing":  {corev1.LimitRangeItem{Type: c, MaxLimitRequestRatio: list("cpu", "2")}, one(nil, list("cpu", "2")), "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0"},
		"ratio to nothing":  {corev1.LimitRangeItem{Type: c, MaxLimitRequestRatio: list("cpu", "2")}, one(list("cpu", "2"), nil), "cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0"},
		"several":           {corev1.LimitRangeItem{Type: c, Min: list("cpu", "1", "memory", "1")}, one(nil, nil), "[minimum cpu usage per Container is 1.  No request is specified, minimum memory usage per Container is 1.  No request is specified]"},
		"the whole pod":     {corev1.LimitRangeItem{Type: p, Max: list("cpu", "3")}, pod(container("a", nil, list("cpu", "2")), container("b", nil, list("cpu", "2"))), "maximum cpu usage per Pod is 3, but limit is 4"},
		"each container":    {corev1.LimitRangeItem{Type: c, Max: list("cpu", "3")}, pod(container("a", nil, list("cpu", "2")), container("b", nil, list("cpu", "2"))), ""},
		"claim":             {corev1.LimitRangeItem{Type: v, Min: list("storage", "1Gi"), Max: list("storage", "2Gi")}, claim, "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 5Gi"},
		"claim of little":   {corev1.LimitRangeItem{Type: v, Min: list("storage", "6Gi")}, claim, "minimum storage usage per PersistentVolumeClaim is 6Gi, but request is 5Gi"},
		"not for claims":    {corev1.LimitRangeItem{Type: c, Max: list("storage", "2Gi")}, claim, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := ""
			if err := Check(tt.obj, rangeOf(tt.limit)); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestDefault shows that containers get what they leave open and nothing else, and that the pod tells of it.
func TestDefault(t *testing.T) {
	r := rangeOf(corev1.LimitRangeItem{Type: corev1.LimitTypeContainer, DefaultRequest: list("cpu", "100m", "memory", "1Mi"), Default: list("cpu", "200m")},
		corev1.LimitRangeItem{Type: corev1.LimitTypePod, Default: list("cpu", "9")})
	p := pod(container("a", nil, nil), container("b", list("cpu", "1", "memory", "2Mi"), list("cpu", "2")))
	p.Spec.InitContainers = []corev1.Container{container("i", list("cpu", "1"), list("cpu", "1"))}
	Default(p, r)
	a, b, i := p.Spec.Containers[0].Resources, p.Spec.Containers[1].Resources, p.Spec.InitContainers[0].Resources
	if a.Requests.Cpu().String() != "100m" || a.Requests.Memory().String() != "1Mi" || a.Limits.Cpu().String() != "200m" || len(a.Limits) != 1 {
		t.Errorf("a has %v", a)
	}
	if b.Requests.Cpu().String() != "1" || b.Limits.Cpu().String() != "2" || i.Requests.Memory().String() != "1Mi" {
		t.Errorf("b has %v, i has %v", b, i)
	}
	want := "LimitRanger plugin set: cpu, memory request for container a; cpu limit for container a; memory request for init container i"
	if got := p.Annotations[setAnnotation]; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
