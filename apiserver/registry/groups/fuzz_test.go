package groups_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime/debug"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/registry/groups"
)

// Whatever a client sends, no kind's rules panic on it, its defaults are the same the second time, and checking an object
// does not change it.
func TestAnything(t *testing.T) {
	rounds := 100
	if testing.Short() {
		rounds = 20
	}
	for _, r := range groups.All(core.Config{}) {
		t.Run(r.Kind.GroupKind().String()+"/"+r.Kind.Version, func(t *testing.T) {
			t.Parallel()
			for i := range rounds {
				f := filler{rand.New(rand.NewPCG(uint64(i), 1))}
				if err := anything(r, f.object(r), f.object(r), f.object(r)); err != nil {
					t.Fatalf("seed %d: %v", i, err)
				}
			}
		})
	}
}

// anything puts an object, a change of it and a body for its subresources through a kind's rules.
func anything(r *registry.Resource, old, obj, body registry.Object) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v\n%s", p, debug.Stack())
		}
	}()
	s, now := &r.Strategy, time.Unix(1000, 0)
	for _, o := range []registry.Object{old, obj} {
		if s.Default != nil {
			s.Default(o)
			again := o.DeepCopyObject().(registry.Object)
			s.Default(again)
			if !equality.Semantic.DeepEqual(o, again) {
				return fmt.Errorf("the defaults are not those of the first time:\n%+v\n%+v", o, again)
			}
		}
	}
	if s.PrepareCreate != nil {
		s.PrepareCreate(old)
	}
	if s.SetCreator != nil {
		s.SetCreator(old, registry.Creator{Name: "me"})
	}
	if s.Validate != nil {
		before := old.DeepCopyObject()
		if errs := s.Validate(old); len(errs) == 0 && s.Warnings != nil {
			s.Warnings(old)
		}
		if !equality.Semantic.DeepEqual(old, before) {
			return fmt.Errorf("Validate changed\n%+v\nto\n%+v", before, old)
		}
	}
	was := old.DeepCopyObject()
	if s.PrepareUpdate != nil {
		s.PrepareUpdate(obj, old)
	}
	if s.ValidateUpdate != nil {
		before := obj.DeepCopyObject()
		if errs := s.ValidateUpdate(obj, old); len(errs) == 0 && s.ChangeWarnings != nil {
			s.ChangeWarnings(obj, old)
		}
		if !equality.Semantic.DeepEqual(obj, before) {
			return fmt.Errorf("ValidateUpdate changed\n%+v\nto\n%+v", before, obj)
		}
	}
	for _, o := range []registry.Object{old, obj} {
		for _, c := range r.Columns {
			c.Cell(o, now)
			if c.Value != nil {
				c.Value(o, now)
			}
		}
		for _, f := range r.Fields {
			f(o)
		}
		if s.Claims != nil {
			s.Claims(o)
		}
		if s.GracePeriod != nil {
			s.GracePeriod(o, nil)
		}
		if s.Held != nil {
			s.Held(o)
		}
		if r.Stored != nil {
			kept, err := r.Stored.To(o)
			if err != nil {
				return err
			}
			if _, err := r.Stored.From(kept); err != nil {
				return err
			}
		}
	}
	if s.SpecChanged != nil {
		s.SpecChanged(obj, old)
	}
	for _, sub := range r.Subresources {
		if sub.Get != nil {
			_, _ = sub.Get(old)
		}
		if sub.Apply == nil || sub.New != nil {
			continue
		}
		if changed, err := sub.Apply(old, body, now); err == nil && sub.Validate != nil {
			sub.Validate(changed, old)
		}
	}
	if !equality.Semantic.DeepEqual(old, was) {
		return fmt.Errorf("what was stored changed:\n%+v\n%+v", was, old)
	}
	return nil
}

// words are strings that some rule understands, and some that none does.
var words = []string{
	"", "a", "a.b", "A", "-", "*", "/x", "../x", "x/y", "example.com/x", "1.2.3.4", "10.0.0.0/8", "fd00::1", "fd00::/64", "0-2", "5-", "80", "10%",
	"Always", "Never", "OnFailure", "Indexed", "In", "NotIn", "Exists", "Gt", "DoesNotExist", "DoNotSchedule", "Honor", "Pods", "Resource", "External",
	"Object", "ContainerResource", "Utilization", "AverageValue", "Value", "Exempt", "Limited", "Queue", "Reject", "User", "Group", "ServiceAccount",
	"ByUser", "ByNamespace", "Namespaced", "IPv4", "IPv6", "SingleStack", "RequireDualStack", "PreferDualStack", "TCP", "UDP", "ClusterIP", "NodePort",
	"LoadBalancer", "ExternalName", "None", "True", "False", "RollingUpdate", "OnDelete", "Recreate", "Local", "Cluster", "Filesystem", "Block",
	"ReadWriteOnce", "FailJob", "FailIndex", "Ignore", "Exact", "Prefix", "true", "device.attributes['a'].b", "* * * * *", "@every 1h", "CRON_TZ=UTC 0 0 * * *",
	"Europe/Berlin", "Nowhere", "cpu", "memory", "pods", "requests.cpu", "Localhost", "ExactCount", "All", "NoSchedule", "linux", "windows", "Approved",
	"kubernetes.io/kube-apiserver-client", "kubernetes.io/tls", "$(A)", "{", "[]", "10000000000000000000000",
}

// filler makes objects that are as likely to be nonsense as to make sense.
type filler struct{ *rand.Rand }

func (f filler) object(r *registry.Resource) registry.Object {
	obj := r.New()
	f.fill(reflect.ValueOf(obj).Elem(), 0)
	obj.SetName(words[f.IntN(len(words))])
	if r.Namespaced {
		obj.SetNamespace("default")
	}
	return obj
}

func (f filler) fill(v reflect.Value, depth int) {
	if !v.CanSet() || depth > 3 && f.IntN(3) == 0 || depth > 12 {
		return
	}
	switch p := v.Addr().Interface().(type) {
	case *resource.Quantity:
		*p = resource.MustParse([]string{"0", "1", "-1", "100m", "1Gi", "1.5", "10e18"}[f.IntN(7)])
		return
	case *metav1.Time:
		p.Time = time.Unix(f.Int64N(2000), 0)
		return
	case *metav1.MicroTime:
		p.Time = time.Unix(f.Int64N(2000), 0)
		return
	case *intstr.IntOrString:
		if *p = intstr.FromInt32(f.Int32N(100) - 5); f.IntN(2) == 0 {
			*p = intstr.FromString(words[f.IntN(len(words))])
		}
		return
	case *runtime.RawExtension:
		p.Raw = []byte([]string{"{}", "null", `{"a":1}`, "x"}[f.IntN(4)])
		return
	case *metav1.ObjectMeta:
		f.fill(reflect.ValueOf(&p.Labels).Elem(), depth+1)
		f.fill(reflect.ValueOf(&p.Annotations).Elem(), depth+1)
		p.UID, p.Generation = types.UID(words[f.IntN(len(words))]), f.Int64N(3)
		return
	case *metav1.TypeMeta:
		return
	}
	f.kind(v, depth)
}

func (f filler) kind(v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.Pointer:
		if f.IntN(2) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			f.fill(v.Elem(), depth+1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f.fill(v.Field(i), depth+1)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), f.IntN(3), 3))
		for i := range v.Len() {
			f.fill(v.Index(i), depth+1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range f.IntN(3) {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			f.fill(key, depth+1)
			f.fill(value, depth+1)
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		v.SetString(words[f.IntN(len(words))])
	case reflect.Bool:
		v.SetBool(f.IntN(2) == 0)
	case reflect.Int32, reflect.Int64, reflect.Int:
		v.SetInt(int64([]int{0, 1, -1, 2, 80, 65536, 2147483647, f.IntN(100000)}[f.IntN(8)]))
	case reflect.Uint8:
		v.SetUint(uint64(f.IntN(256)))
	}
}
