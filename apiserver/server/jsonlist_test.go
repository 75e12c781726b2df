package server_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/registry/codec"
)

// A list, an object and an event in JSON are byte for byte what encoding/json makes of the objects that the protobuf list has, also of a
// list that is sent in several pieces and of one that is compressed.
func TestJSONIsThatOfTheTypes(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	const many = 40
	for i := range many {
		u.create(t, configMap(fmt.Sprintf("m-%02d", i), "k", strings.Repeat(fmt.Sprintf("<%d>\n", i), 10_000)))
	}
	const path = "/api/v1/namespaces/default/configmaps"
	var list corev1.ConfigMapList
	if err := list.Unmarshal(unwrap(t, u.get(t, path, "application/vnd.kubernetes.protobuf"))); err != nil || len(list.Items) != many {
		t.Fatal(err, len(list.Items))
	}
	list.TypeMeta = metav1.TypeMeta{Kind: "ConfigMapList", APIVersion: "v1"}
	var want bytes.Buffer
	check(t, json.NewEncoder(&want).Encode(&list))
	if got := u.get(t, path, "application/json"); !bytes.Equal(got, want.Bytes()) {
		t.Errorf("list of %d bytes is not the one of %d bytes", len(got), want.Len())
	}
	if got := zipped(t, u, path); !bytes.Equal(got, want.Bytes()) {
		t.Errorf("compressed list of %d bytes is not the one of %d bytes", len(got), want.Len())
	}
	// A table, which is written row by row, is what it decodes to.
	const asTable = "application/json;as=Table;v=v1;g=meta.k8s.io"
	for _, include := range []string{"", "None", "Object", "Metadata"} {
		text := u.get(t, path+"?includeObject="+include, asTable)
		var table metav1.Table
		check(t, json.Unmarshal(text, &table))
		want.Reset()
		check(t, json.NewEncoder(&want).Encode(&table))
		if len(table.Rows) != many || !bytes.Equal(text, want.Bytes()) {
			t.Errorf("table with %q: %.300s\nnot %.300s", include, text, want.Bytes())
		}
	}
	first := &list.Items[0]
	first.TypeMeta = metav1.TypeMeta{Kind: "ConfigMap", APIVersion: "v1"}
	want.Reset()
	check(t, json.NewEncoder(&want).Encode(first))
	if got := u.get(t, path+"/"+first.Name, "application/json"); !bytes.Equal(got, want.Bytes()) {
		t.Errorf("object: %.200s", got)
	}
	event := fmt.Sprintf(`{"type":"ADDED","object":%s}`+"\n", bytes.TrimSpace(want.Bytes()))
	if got := u.get(t, path+"?watch=1&timeoutSeconds=1&fieldSelector=metadata.name="+first.Name, "application/json"); string(got) != event {
		t.Errorf("event: %.200s", got)
	}
}

// unwrap takes a message out of the protobuf envelope.
func unwrap(t *testing.T, b []byte) []byte {
	t.Helper()
	_, _, raw, err := codec.Open(b)
	check(t, err)
	return raw
}

// zipped reads a path as clients do that take compressed answers.
func zipped(t *testing.T, u *user, path string) []byte {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u.base+path, nil)
	check(t, err)
	q.Header.Set("Accept-Encoding", "gzip")
	_, header, b := u.roundTrip(t, q)
	if header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("not compressed: %v", header)
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	check(t, err)
	plain, err := io.ReadAll(z)
	check(t, err)
	return plain
}
