package frame_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"bareboat.dev/apiserver/watchcache/frame"
)

func pod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", Labels: map[string]string{"app": "web"}, Finalizers: []string{"f"}},
		Spec:       corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
}

func stored(t testing.TB) []byte {
	t.Helper()
	raw, err := pod().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return frame.Wrap("v1", "Pod", frame.Protobuf, raw)
}

// What Wrap stores is byte for byte what Kubernetes' own serializer puts into etcd, and comes back as the same object.
func TestWrapIsKubernetesEnvelope(t *testing.T) {
	raw, _ := pod().Marshal()
	unknown := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: "Pod"}, Raw: raw}
	body, err := unknown.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if want := append([]byte("k8s\x00"), body...); !bytes.Equal(stored(t), want) {
		t.Errorf("envelope\n%q\nnot\n%q", stored(t), want)
	}
}

// A frame decodes to the stored object with the resource version, in both forms, and again at another version.
func TestSpliceProtobuf(t *testing.T) {
	f, err := frame.Splice(stored(t), 42)
	for _, version := range []string{"42", "9223372036854775807", "7"} {
		if err != nil {
			t.Fatal(err)
		}
		want, got := pod(), &corev1.Pod{}
		want.ResourceVersion = version
		if err := got.Unmarshal(f.Object()); err != nil || !equality.Semantic.DeepEqual(got, want) {
			t.Errorf("object: %v %v", err, got)
		}
		var unknown runtime.Unknown
		if err := unknown.Unmarshal(f.Envelope()[4:]); err != nil || !bytes.Equal(unknown.Raw, f.Object()) || unknown.Kind != "Pod" || unknown.APIVersion != "v1" {
			t.Errorf("envelope: %v %+v", err, unknown.TypeMeta)
		}
		if f.Kind() != "Pod" || f.APIVersion() != "v1" || f.ContentType() != frame.Protobuf {
			t.Errorf("type %s %s %v", f.APIVersion(), f.Kind(), f.ContentType())
		}
		next := int64(7)
		if version == "42" {
			next = 1<<63 - 1
		}
		f, err = f.WithRevision(next)
	}
}

// The version replaces one that was stored by mistake.
func TestSpliceOverStoredVersion(t *testing.T) {
	p := pod()
	p.ResourceVersion = "1"
	raw, _ := p.Marshal()
	f, err := frame.Splice(frame.Wrap("v1", "Pod", frame.Protobuf, raw), 5)
	if err != nil {
		t.Fatal(err)
	}
	var got corev1.Pod
	if err := got.Unmarshal(f.Object()); err != nil || got.ResourceVersion != "5" {
		t.Errorf("%v %q", err, got.ResourceVersion)
	}
}

// Custom resources get their version into the text, wherever metadata is and whatever is in it.
func TestSpliceJSON(t *testing.T) {
	for _, text := range []string{
		`{"apiVersion":"a/v1","kind":"A","metadata":{"name":"x"},"spec":{"metadata":{"name":"no"}}}`,
		`{ "spec" : {"metadata":{}}, "metadata" : { "name":"x", "resourceVersion":"3", "uid":"u" } }`,
		`{"metadata":{}}`,
		`{"metadata":{"resourceVersion":"12345678901234567890"}}`,
		`{"metadata":{"annotations":{"a":"\"resourceVersion\":\"9\"","resourceVersion":"8"},"name":"x"}}`,
	} {
		f, err := frame.Splice([]byte(text), 42)
		for _, version := range []string{"42", "43"} {
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			var got, want map[string]any
			if err := json.Unmarshal(f.Object(), &got); err != nil {
				t.Fatalf("%s: %v", f.Object(), err)
			}
			json.Unmarshal([]byte(text), &want)
			want["metadata"].(map[string]any)["resourceVersion"] = version
			if fmt.Sprint(got) != fmt.Sprint(want) || f.ContentType() != frame.JSON {
				t.Errorf("%s became %s", text, f.Object())
			}
			f, err = f.WithRevision(43)
		}
	}
}

// What is no stored object is refused.
func TestMalformed(t *testing.T) {
	good := string(stored(t))
	for _, text := range []string{"", "k8s", "k8s\x00", "k8s\x00\xff\xff", good[:len(good)/2], "[]", "null", `"x"`, `{}`, `{"metadata":1}`, `{"metadata":null}`, `{"metadata":{"a"`, "yaml: x"} {
		if f, err := frame.Splice([]byte(text), 1); !errors.Is(err, frame.ErrMalformed) {
			t.Errorf("%q: %v %q", text, err, f.Envelope())
		}
	}
}

// No input makes Splice panic, and what it accepts has one object in it at the version.
func FuzzSplice(f *testing.F) {
	f.Add(stored(f))
	f.Add([]byte(`{"metadata":{"name":"x","resourceVersion":"1"}}`))
	f.Add([]byte("k8s\x00\x0a\x02\x08\x01\x12\x00"))
	f.Fuzz(func(t *testing.T, value []byte) {
		fr, err := frame.Splice(value, 42)
		if err != nil {
			return
		}
		if _, err := fr.WithRevision(43); err != nil {
			t.Errorf("accepted once: %v", err)
		}
		if fr.ContentType() == frame.JSON && !bytes.Contains(fr.Object(), []byte(`"42"`)) {
			t.Errorf("no version in %s", fr.Object())
		}
		var p corev1.Pod
		if strings.HasPrefix(string(value), "k8s\x00") && p.Unmarshal(fr.Object()) == nil && p.ResourceVersion != "42" {
			t.Errorf("version %q", p.ResourceVersion)
		}
	})
}

// Encoding one object once is the yardstick for what a watch event costs: the ratio says how much cheaper splicing is.
func BenchmarkSplice(b *testing.B) {
	const round = 1000
	value, object := stored(b), pod()
	object.ResourceVersion = "42"
	var splicing, encoding time.Duration
	rounds := 0
	for b.Loop() {
		start := time.Now()
		for range round {
			if _, err := frame.Splice(value, 42); err != nil {
				b.Fatal(err)
			}
		}
		splicing += time.Since(start)
		start = time.Now()
		for range round {
			if _, err := object.Marshal(); err != nil {
				b.Fatal(err)
			}
		}
		encoding += time.Since(start)
		rounds++
	}
	b.ReportMetric(float64(splicing.Nanoseconds())/float64(rounds*round), "ns/splice")
	b.ReportMetric(float64(encoding.Nanoseconds())/float64(rounds*round), "ns/encode")
	b.ReportMetric(splicing.Seconds()/encoding.Seconds(), "splice/encode")
	b.ReportMetric(0, "ns/op")
}
