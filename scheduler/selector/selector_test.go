package selector

import (
	"strings"
	"testing"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Expressions see a device's driver, attributes by domain, capacity as quantities and versions; what cannot be compiled or evaluated is
// an error.
func TestSelector(t *testing.T) {
	text, version := "h100", "1.2.3"
	d := &resourcev1.Device{
		Name:       "gpu-0",
		Attributes: map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{"model": {StringValue: &text}, "other.example.com/firmware": {VersionValue: &version}},
		Capacity:   map[resourcev1.QualifiedName]resourcev1.DeviceCapacity{"memory": {Value: resource.MustParse("80Gi")}},
	}
	match := New()
	for expression, want := range map[string]string{
		`device.driver == "gpu.example.com"`:                                                     "true",
		`device.attributes["gpu.example.com"].model == "h100"`:                                   "true",
		`device.attributes["gpu.example.com"].model == "a100"`:                                   "false",
		`device.attributes["other.example.com"].firmware.isGreaterThan(semver("1.0.0"))`:         "true",
		`device.capacity["gpu.example.com"].memory.compareTo(quantity("100Gi")) >= 0`:            "false",
		`"absent.example.com" in device.attributes && device.attributes["absent.example.com"].x`: "false",
		`device.attributes["gpu.example.com"].absent == "x"`:                                     "no such key",
		`device.nothing`: "compilation failed",
	} {
		ok, err := match(expression, "gpu.example.com", d)
		got := "false"
		if err != nil {
			got = err.Error()
		} else if ok {
			got = "true"
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", expression, got, want)
		}
	}
}
