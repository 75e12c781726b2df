package wirejson_test

import (
	"math/rand/v2"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// filler sets fields at random.
type filler struct{ *rand.Rand }

func newFiller(seed uint64) filler { return filler{rand.New(rand.NewPCG(seed, 1))} }

var (
	texts = []string{
		"", "a", "web-6b7f675d7c", "<b>&amp;</b>", "line\nbreak\ttab\r\b\f", `quo"te\back`, "\x00\x01\x1f\x7f", "umlaut ü, 中文, 😀", "\u2028\u2029\u202a",
		"bad \xff\xc3 end\xe2\x80", "\xed\xa0\x80", "/", "{}",
	}
	quantities = []string{
		"0", "1", "100m", "250m", "1000m", "1500m", "10", "1000", "12000", "1k", "1000k", "1Ki", "64Mi", "1024Mi", "1.5Gi", "0.5", "1e3", "1E6", "12e-3", "100u", "5n", "-1",
		"-100m", "9223372036854775807", "123456789012345678901234567890", "0Ki", "1000Ki", "007", "+5", "1P", "1E", "1Ei", "999999999999999", "1000000000000000", "1Pi", ".5",
	}
	documents = []string{
		`{}`, `{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"k:{\"name\":\"c\"}":{}}}`, `{ "a" : [ 1, 2.5e3, -0, true, null, "x" ] }`, `{"a":"<>&"}`,
		"{\"a\":\"\u2028\"}", `{"a":"\u00e4\/"}`, `{"a":[[],[{}],-12,0,false,null]}`, `{"a":01}`, `{"a":}`, `{"a":1`, `null`, `[1]`, `"s"`, ` {}`, `{}x`, "{\"a\":\"\x01\"}", `{"a":1,}`,
	}
)

func (f filler) value(v reflect.Value, depth int) {
	switch v.Type() {
	case reflect.TypeFor[metav1.TypeMeta]():
		return
	case reflect.TypeFor[metav1.Time]():
		v.Set(reflect.ValueOf(metav1.Time{Time: f.time()}))
		return
	case reflect.TypeFor[metav1.MicroTime]():
		v.Set(reflect.ValueOf(metav1.MicroTime{Time: f.time()}))
		return
	case reflect.TypeFor[resource.Quantity]():
		v.Set(reflect.ValueOf(resource.MustParse(quantities[f.IntN(len(quantities))])))
		return
	case reflect.TypeFor[intstr.IntOrString]():
		v.Set(reflect.ValueOf([]intstr.IntOrString{intstr.FromInt32(f.Int32() - 1<<30), intstr.FromString("50%"), {}}[f.IntN(3)]))
		return
	case reflect.TypeFor[metav1.FieldsV1]():
		v.Set(reflect.ValueOf(metav1.FieldsV1{Raw: []byte(documents[f.document()])}))
		return
	case reflect.TypeFor[runtime.RawExtension]():
		v.Set(reflect.ValueOf(runtime.RawExtension{Raw: []byte(documents[f.document()])}))
		return
	}
	f.kind(v, depth)
}

// document is the index of a document, mostly of a valid one.
func (f filler) document() int {
	if f.IntN(10) > 0 {
		return f.IntN(7)
	}
	return f.IntN(len(documents))
}

func (f filler) time() time.Time {
	switch f.IntN(5) {
	case 0:
		return time.Time{}
	case 1:
		return time.Unix(0, 0)
	}
	return time.Unix(f.Int64N(1<<34)-1<<32, f.Int64N(1e9))
}

func (f filler) kind(v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() && (f.IntN(3) > 0 || depth == 0) {
				f.value(v.Field(i), depth+1)
			}
		}
	case reflect.Pointer:
		if depth < 12 && f.IntN(2) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			f.value(v.Elem(), depth+1)
		}
	case reflect.Slice:
		f.slice(v, depth)
	case reflect.Map:
		f.lookup(v, depth)
	case reflect.String:
		v.SetString(texts[f.IntN(len(texts))])
	case reflect.Bool:
		v.SetBool(f.IntN(2) == 0)
	case reflect.Int32, reflect.Int64:
		v.SetInt([]int64{0, 1, -1, 127, 128, 1 << 31, -1 << 63, 1<<63 - 1}[f.IntN(8)])
	case reflect.Float64:
		v.SetFloat([]float64{0, 1, -1.5, 1e21, 1e-7, 3.25}[f.IntN(6)])
	}
}

func (f filler) slice(v reflect.Value, depth int) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		if f.IntN(3) > 0 {
			v.SetBytes([]byte(texts[f.IntN(len(texts))]))
		}
		return
	}
	if depth > 8 {
		return
	}
	n := f.IntN(4)
	v.Set(reflect.MakeSlice(v.Type(), n, n))
	for i := range n {
		f.value(v.Index(i), depth+1)
	}
}

func (f filler) lookup(v reflect.Value, depth int) {
	if depth > 8 {
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for range f.IntN(4) {
		key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		key.SetString(texts[f.IntN(len(texts))])
		f.value(elem, depth+1)
		v.SetMapIndex(key, elem)
	}
}

// damage changes an encoding: parts doubled, moved, cut off or overwritten.
func (f filler) damage(raw []byte) []byte {
	out := append([]byte(nil), raw...)
	for range 1 + f.IntN(3) {
		if len(out) < 4 {
			break
		}
		i := f.IntN(len(out))
		switch f.IntN(6) {
		case 0:
			out = out[:i]
		case 1, 2:
			out[i] = byte(f.Uint32())
		case 3:
			out[i] ^= 1 << f.IntN(8)
		case 4:
			out = append(out, raw...)
		case 5:
			j := i + f.IntN(len(out)-i)
			out = append(out[:i:i], out[j:]...)
		}
	}
	return out
}

// runningPod is a pod as kubelets and controllers leave it.
func runningPod() *corev1.Pod {
	now := metav1.Unix(1790000000, 0)
	yes, no := true, false
	list := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m"), corev1.ResourceMemory: resource.MustParse("128Mi")}
	condition := func(t corev1.PodConditionType) corev1.PodCondition {
		return corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, LastTransitionTime: now, ObservedGeneration: 1}
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "web-6b7f675d7c-x2k4j", GenerateName: "web-6b7f675d7c-", Namespace: "default", UID: "06c5edce-c476-438c-94da-a30104017516", CreationTimestamp: now, Generation: 1,
			Labels:          map[string]string{"app": "web", "pod-template-hash": "6b7f675d7c"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-6b7f675d7c", UID: "16c5edce-c476-438c-94da-a30104017516", Controller: &yes, BlockOwnerDeletion: &yes}},
		},
		Spec: corev1.PodSpec{
			Volumes:                       []corev1.Volume{{Name: "kube-api-access-abcde", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}}}}}}},
			Containers:                    []corev1.Container{{Name: "main", Image: "example.org/web:1.2", Ports: []corev1.ContainerPort{{ContainerPort: 8080, Protocol: "TCP"}}, Env: []corev1.EnvVar{{Name: "A", Value: "b"}}, Resources: corev1.ResourceRequirements{Limits: list, Requests: list}, VolumeMounts: []corev1.VolumeMount{{Name: "kube-api-access-abcde", ReadOnly: true, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}}, TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: "File", ImagePullPolicy: "IfNotPresent"}},
			RestartPolicy:                 "Always",
			TerminationGracePeriodSeconds: new(int64), DNSPolicy: "ClusterFirst", ServiceAccountName: "default", NodeName: "node-0001", SecurityContext: &corev1.PodSecurityContext{}, SchedulerName: "default-scheduler",
			Tolerations:        []corev1.Toleration{{Key: "node.kubernetes.io/not-ready", Operator: "Exists", Effect: "NoExecute", TolerationSeconds: new(int64)}},
			EnableServiceLinks: &no,
		},
		Status: corev1.PodStatus{
			Phase: "Running", HostIP: "10.0.0.1", PodIP: "10.244.1.2", PodIPs: []corev1.PodIP{{IP: "10.244.1.2"}}, StartTime: &now, QOSClass: "Guaranteed",
			Conditions:        []corev1.PodCondition{condition("PodScheduled"), condition("Initialized"), condition("ContainersReady"), condition("Ready")},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "main", Ready: true, Started: &yes, Image: "example.org/web:1.2", ImageID: "sha256:0123456789abcdef", ContainerID: "bareboat://0123456789abcdef", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}}},
		},
	}
}
