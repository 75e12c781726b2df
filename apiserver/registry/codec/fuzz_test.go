package codec_test

import (
	"bytes"
	"testing"

	"bareboat.dev/apiserver/registry/codec"
)

// No body makes a decoder panic, and what is accepted goes through defaulting, validation and the stored form.
func FuzzDecodeBody(f *testing.F) {
	set := testSet(f)
	c := codec.New(set)
	pods, _ := set.Lookup("", "v1", "pods")
	services, _ := set.Lookup("", "v1", "services")
	types := []string{codec.JSON, codec.YAML, codec.Protobuf}
	f.Add(byte(0), []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"i"}]}}`))
	f.Add(byte(1), []byte("metadata: {name: a}\nspec: &s {containers: [{name: c, resources: {limits: {cpu: 1}}}]}\n"))
	f.Add(byte(3), []byte(`{"spec":{"clusterIPs":["10.96.0.1"],"ports":[{"port":80,"nodePort":30000}]}}`))
	f.Add(byte(2), []byte("k8s\x00\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x04\x0a\x02\x0a\x00"))
	f.Fuzz(func(t *testing.T, how byte, body []byte) {
		r := pods
		if how >= 3 {
			r = services
		}
		obj := r.New()
		if _, err := c.DecodeBody(types[how%3], body, r.Kind, codec.FieldValidation(how%3), obj); err != nil {
			return
		}
		r.Strategy.Default(obj)
		r.Strategy.PrepareCreate(obj)
		_ = r.Strategy.Validate(obj)
		for _, column := range r.Columns {
			_ = column.Cell(obj, obj.GetCreationTimestamp().Time)
		}
		stored, err := c.EncodeStored(r.Kind, obj)
		if err != nil {
			t.Fatal(err)
		}
		again := r.New()
		if err := c.DecodeStored(stored, again); err != nil {
			t.Fatal(err)
		}
		twice, err := c.EncodeStored(r.Kind, again)
		if err != nil || !bytes.Equal(stored, twice) {
			t.Fatalf("the stored form is not stable: %v", err)
		}
	})
}

// No frame makes the splitter panic, and what it splits is inside the frame.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("k8s\x00\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x02\x0a\x00\x1a\x00\x22\x00"))
	f.Add([]byte("k8s\x00\xff"))
	f.Fuzz(func(t *testing.T, stored []byte) {
		if _, _, raw, err := codec.Open(stored); err == nil && len(raw) > len(stored) {
			t.Error("raw is longer than the frame")
		}
	})
}
