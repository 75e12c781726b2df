package shim

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Shows that podshim reads of a container all that the kubelet writes: every field, and every part of the specification that Linux has.
func TestContainerConfigArrivesWhole(t *testing.T) {
	sent := ContainerConfig{Spec: &specs.Spec{}}
	fill(reflect.ValueOf(&sent).Elem())
	fill(reflect.ValueOf(sent.Spec).Elem())
	sent.Spec.Linux, sent.Spec.Process = &specs.Linux{CgroupsPath: "x"}, &specs.Process{Cwd: "x"}
	for i := range reflect.ValueOf(sent).NumField() {
		if reflect.ValueOf(sent).Field(i).IsZero() {
			t.Fatalf("the test does not fill %s", reflect.TypeOf(sent).Field(i).Name)
		}
	}
	data, err := json.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	var got ContainerConfig
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	sent.Spec.Solaris, sent.Spec.Windows, sent.Spec.VM, sent.Spec.ZOS, sent.Spec.FreeBSD = nil, nil, nil, nil, nil
	if !reflect.DeepEqual(sent, got) {
		again, err := json.Marshal(got)
		t.Errorf("sent\n%s\narrived\n%s, %v", data, again, err)
	}
}

// fill sets a struct's empty fields to something.
func fill(v reflect.Value) {
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Uint32:
			f.SetUint(7)
		case reflect.Pointer:
			if f.IsNil() {
				f.Set(reflect.New(f.Type().Elem()))
			}
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		case reflect.Map:
			f.Set(reflect.MakeMap(f.Type()))
			f.SetMapIndex(reflect.New(f.Type().Key()).Elem(), reflect.New(f.Type().Elem()).Elem())
		}
	}
}
