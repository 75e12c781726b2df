package server_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/websocket"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

const maps = "/api/v1/namespaces/default/configmaps"

// status reads an answer as an error.
func statusOf(t *testing.T, body []byte) metav1.Status {
	t.Helper()
	var s metav1.Status
	if err := json.Unmarshal(body, &s); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return s
}

// Requests that the contract refuses are refused with kube-apiserver's code, reason and words.
func TestRESTErrors(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	u.create(t, configMap("a"))
	const json, object = "application/json", `{"metadata":{"name":"b"}}`
	for _, tc := range []struct {
		method, path, media, body string
		code                      int
		reason                    metav1.StatusReason
		message                   string
	}{
		{"POST", maps + "/a", json, object, 405, metav1.StatusReasonMethodNotAllowed, "the server does not allow this method on the requested resource"},
		{"PUT", maps, json, object, 405, metav1.StatusReasonMethodNotAllowed, "the server does not allow this method on the requested resource"},
		{"GET", "/apis/authentication.k8s.io/v1/tokenreviews", "", "", 405, metav1.StatusReasonMethodNotAllowed, "the server does not allow this method on the requested resource"},
		{"OPTIONS", maps, "", "", 405, metav1.StatusReasonMethodNotAllowed, "the server does not allow this method on the requested resource"},
		{"GET", "/api/v1/namespaces/default/gadgets", "", "", 404, metav1.StatusReasonNotFound, "the server could not find the requested resource"},
		{"GET", maps + "/none", "", "", 404, metav1.StatusReasonNotFound, `configmaps "none" not found`},
		{"POST", maps, "text/plain", object, 415, metav1.StatusReasonUnsupportedMediaType,
			"the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"},
		{"PATCH", maps + "/a", json, object, 415, metav1.StatusReasonUnsupportedMediaType,
			"the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml"},
		{"POST", maps + "?dryRun=some", json, object, 422, metav1.StatusReasonInvalid,
			`CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["some"]: supported values: "All"`},
		{"POST", maps + "?fieldValidation=Maybe", json, object, 422, metav1.StatusReasonInvalid,
			`CreateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: "Maybe": supported values: "", "Ignore", "Strict", "Warn"`},
		{"GET", maps + "?limit=x", "", "", 400, metav1.StatusReasonBadRequest, `strconv.ParseInt: parsing "x": invalid syntax`},
		{"GET", maps + "?labelSelector=a=,,b", "", "", 400, metav1.StatusReasonBadRequest, `unable to parse requirement: found ',', expected: identifier after ','`},
		{"GET", maps + "?fieldSelector=spec.x=1", "", "", 400, metav1.StatusReasonBadRequest, `"spec.x" is not a known field selector: only "metadata.name", "metadata.namespace"`},
		{"GET", maps + "?resourceVersion=x", "", "", 400, metav1.StatusReasonBadRequest, `strconv.ParseUint: parsing "x": invalid syntax`},
		{"GET", maps + "?resourceVersionMatch=Exact", "", "", 422, metav1.StatusReasonInvalid,
			`ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided`},
		{"GET", maps + "?resourceVersionMatch=Exact&resourceVersion=0", "", "", 422, metav1.StatusReasonInvalid,
			`ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"`},
		{"GET", maps + "?resourceVersionMatch=About&resourceVersion=5", "", "", 422, metav1.StatusReasonInvalid,
			`ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Unsupported value: "About": supported values: "Exact", "NotOlderThan", ""`},
		{"GET", maps + "?sendInitialEvents=true", "", "", 422, metav1.StatusReasonInvalid,
			`ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list`},
		{"GET", maps + "?watch=1&sendInitialEvents=true", "", "", 422, metav1.StatusReasonInvalid,
			`ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan`},
		{"GET", maps + "?watch=1&resourceVersionMatch=NotOlderThan", "", "", 422, metav1.StatusReasonInvalid,
			`ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided`},
		{"GET", maps + "?timeout=soon", "", "", 400, metav1.StatusReasonBadRequest, "invalid timeout specified in the request URL"},
		{"GET", maps + "?continue=x", "", "", 400, metav1.StatusReasonBadRequest, "continue key is not valid: illegal base64 data at input byte 0"},
		{"DELETE", maps + "/a?propagationPolicy=Sideways", "", "", 422, metav1.StatusReasonInvalid,
			`DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "Sideways": supported values: "Foreground", "Background", "Orphan", "nil"`},
		{"PATCH", maps + "/a?force=true", "application/merge-patch+json", "{}", 422, metav1.StatusReasonInvalid,
			`PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for non-apply patch`},
		{"PATCH", maps + "/a", "application/apply-patch+yaml", "{}", 422, metav1.StatusReasonInvalid,
			`PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch`},
		{"POST", maps + "?fieldManager=" + strings.Repeat("m", 129), json, object, 422, metav1.StatusReasonInvalid,
			`CreateOptions.meta.k8s.io "" is invalid: fieldManager: Too long: may not be more than 128 bytes`},
		{"DELETE", maps + "/a", json, `{"preconditions":{"uid":"other"}}`, 409, metav1.StatusReasonConflict, "the UID in the precondition (other) does not match the UID in record"},
		{"DELETE", maps + "/a", json, `{"kind":"Pod","apiVersion":"v1"}`, 400, metav1.StatusReasonBadRequest, "decoded object cannot be converted to DeleteOptions"},
		{"POST", maps, json, `{"metadata":{"name":"b"},"data":{"a":"` + strings.Repeat("x", 3<<20) + `"}}`, 413, metav1.StatusReasonRequestEntityTooLarge,
			"Request entity too large: limit is 3145728"},
		{"POST", maps, json, strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000), 400, metav1.StatusReasonBadRequest, ""},
	} {
		code, _, body := u.rest(t, tc.method, tc.path, tc.media, tc.body)
		s := statusOf(t, body)
		if code != tc.code || s.Reason != tc.reason || int(s.Code) != tc.code || s.Status != metav1.StatusFailure || s.Kind != "Status" || !strings.Contains(s.Message, tc.message) {
			t.Errorf("%s %s:\n got %d %s %q\nwant %d %s %q", tc.method, tc.path, code, s.Reason, s.Message, tc.code, tc.reason, tc.message)
		}
	}
	for accept, want := range map[string]string{
		"image/png": "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf",
	} {
		if code, _, body := u.accept(t, maps, accept); code != 406 || statusOf(t, body).Message != want {
			t.Errorf("Accept: %s: %d %s", accept, code, body)
		}
	}
	if code, _, body := u.accept(t, maps+"?watch=1", "application/yaml"); code != 406 || !strings.Contains(string(body),
		"message: 'only the following media types are accepted: application/json;stream=watch,") {
		t.Errorf("a watch in YAML: %d %s", code, body)
	}
}

// accept reads a path with an Accept header.
func (u *user) accept(t *testing.T, path, accept string) (int, http.Header, []byte) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u.base+path, nil)
	check(t, err)
	q.Header.Set("Accept", accept)
	return u.roundTrip(t, q)
}

// An error comes in the format that its reader accepts.
func TestErrorsAreNegotiated(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	_, header, body := u.accept(t, maps+"/none", "application/vnd.kubernetes.protobuf")
	raw, ok := bytes.CutPrefix(body, []byte("k8s\x00"))
	var unknown runtime.Unknown
	var s metav1.Status
	if !ok || header.Get("Content-Type") != "application/vnd.kubernetes.protobuf" {
		t.Fatalf("%v %q", header, body)
	}
	check(t, unknown.Unmarshal(raw))
	check(t, s.Unmarshal(unknown.Raw))
	if unknown.Kind != "Status" || s.Code != 404 {
		t.Errorf("%v %v", unknown.TypeMeta, s)
	}
	if _, _, body := u.accept(t, maps+"/none", "application/yaml"); !strings.Contains(string(body), "reason: NotFound") {
		t.Errorf("YAML: %s", body)
	}
	if _, _, body := u.accept(t, maps+"/none?pretty=1", "application/json"); !strings.Contains(string(body), "\n  \"reason\": \"NotFound\"") {
		t.Errorf("pretty: %s", body)
	}
}

// A collection's deletion answers with what it deleted; an object's with a Status or, of some kinds, the object.
func TestDeletionAnswers(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	for _, name := range []string{"a", "b", "c"} {
		u.create(t, configMap(name))
	}
	code, _, body := u.rest(t, http.MethodDelete, maps+"?fieldSelector=metadata.name!=c&dryRun=All", "", "")
	var list corev1.ConfigMapList
	check(t, json.Unmarshal(body, &list))
	if code != 200 || list.Kind != "ConfigMapList" || len(list.Items) != 2 || list.Items[0].Name != "a" {
		t.Errorf("dry run: %d %s", code, body)
	}
	code, _, body = u.rest(t, http.MethodDelete, maps+"?fieldSelector=metadata.name!=c", "application/json", `{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background"}`)
	check(t, json.Unmarshal(body, &list))
	if code != 200 || len(list.Items) != 2 {
		t.Errorf("%d %s", code, body)
	}
	check(t, json.Unmarshal(u.get(t, maps, ""), &list))
	code, _, body = u.rest(t, http.MethodDelete, maps+"/c?gracePeriodSeconds=0&ignoreStoreReadErrorWithClusterBreakingPotential=true", "", "")
	if s := statusOf(t, body); code != 200 || s.Status != "Success" || s.Details.Name != "c" || s.Details.Kind != "configmaps" || s.Details.UID == "" {
		t.Errorf("%d %s", code, body)
	}
	if len(list.Items) == 0 {
		t.Error("the dry run deleted")
	}
}

// The old paths of watches, and watches of one object, give that object's events.
func TestOldWatchPaths(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	u.create(t, configMap("a"))
	u.create(t, configMap("b"))
	for path, want := range map[string]string{
		"/api/v1/watch/namespaces/default/configmaps/b": `"name":"b"`, "/api/v1/watch/namespaces/default/configmaps": `"name":"a"`,
		"/api/v1/watch/configmaps?labelSelector=!x&fieldSelector=metadata.name=b": `"name":"b"`,
	} {
		resp, err := u.http.Get(u.base + path)
		check(t, err)
		line, err := bufio.NewReader(resp.Body).ReadString('\n')
		check(t, err)
		resp.Body.Close()
		if !strings.HasPrefix(line, `{"type":"ADDED"`) || !strings.Contains(line, want) {
			t.Errorf("%s: %s", path, line)
		}
	}
	if b := u.get(t, maps+"/a?watch=true", ""); !strings.HasPrefix(string(b), `{"kind":"ConfigMap"`) {
		t.Errorf("an object is not watched by a parameter: %s", b)
	}
}

// A watch over a WebSocket sends a message an event, in text or, as protobuf, in binary, and ends when its client closes it.
func TestWatchOverWebSocket(t *testing.T) {
	h := start(t, engines()["memory"](t))
	u := h.admin()
	u.create(t, configMap("a"))
	ws := h.dialWebSocket(t, maps+"?watch=true&resourceVersion=0")
	var event struct {
		Type   string
		Object corev1.ConfigMap
	}
	var text string
	check(t, websocket.Message.Receive(ws, &text))
	check(t, json.Unmarshal([]byte(text), &event))
	if event.Type != "ADDED" || event.Object.Name != "a" {
		t.Errorf("%s", text)
	}
	u.create(t, configMap("b"))
	check(t, websocket.Message.Receive(ws, &text))
	if !strings.Contains(text, `"name":"b"`) {
		t.Errorf("%s", text)
	}
	check(t, ws.Close())
}

// A watch in protobuf is a sequence of lengths and WatchEvents.
func TestWatchFrames(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	u.create(t, configMap("a"))
	for accept, kind := range map[string]string{
		"application/vnd.kubernetes.protobuf;stream=watch":                                "ConfigMap",
		"application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1": "PartialObjectMetadata",
	} {
		q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u.base+maps+"?watch=1", nil)
		check(t, err)
		q.Header.Set("Accept", accept)
		resp, err := u.http.Do(q)
		check(t, err)
		var size [4]byte
		_, err = io.ReadFull(resp.Body, size[:])
		check(t, err)
		frame := make([]byte, binary.BigEndian.Uint32(size[:]))
		_, err = io.ReadFull(resp.Body, frame)
		check(t, err)
		resp.Body.Close()
		var e metav1.WatchEvent
		var unknown runtime.Unknown
		check(t, e.Unmarshal(frame))
		check(t, unknown.Unmarshal(bytes.TrimPrefix(e.Object.Raw, []byte("k8s\x00"))))
		if e.Type != "ADDED" || unknown.Kind != kind || resp.Header.Get("Content-Type") != "application/vnd.kubernetes.protobuf;stream=watch" {
			t.Errorf("%s: %s %s, %s", accept, e.Type, unknown.Kind, resp.Header.Get("Content-Type"))
		}
	}
}

// A limited list goes on through its token; when its state is gone the answer is 410 with a token that goes on with the present one.
func TestContinueExpired(t *testing.T) {
	engine := engines()["memory"](t)
	u := start(t, engine).admin()
	for _, name := range []string{"a", "b", "c"} {
		u.create(t, configMap(name))
	}
	var page corev1.ConfigMapList
	check(t, json.Unmarshal(u.get(t, maps+"?limit=1", ""), &page))
	if page.Continue == "" || len(page.Items) != 1 || page.RemainingItemCount == nil || *page.RemainingItemCount != 2 {
		t.Fatalf("first page %+v", page.ListMeta)
	}
	u.create(t, configMap("d"))
	rev, err := engine.Current(t.Context())
	check(t, err)
	check(t, engine.Compact(t.Context(), rev))
	// Another server on the store has never seen the list's state.
	u = start(t, engine).admin()
	code, _, body := u.rest(t, http.MethodGet, maps+"?limit=1&continue="+page.Continue, "", "")
	s := statusOf(t, body)
	if code != http.StatusGone || s.Reason != metav1.StatusReasonExpired || s.Continue == "" || !strings.Contains(s.Message, "inconsistent list") {
		t.Fatalf("%d %s", code, body)
	}
	check(t, json.Unmarshal(u.get(t, maps+"?continue="+s.Continue, ""), &page))
	if len(page.Items) != 3 || page.Items[0].Name != "b" {
		t.Errorf("the rest: %+v", page.Items)
	}
}

// Large answers are compressed for those who accept it, and HEAD answers without a body.
func TestGzipAndHead(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	u.create(t, configMap("a", "k", strings.Repeat("x", 200_000)))
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u.base+maps, nil)
	check(t, err)
	q.Header.Set("Accept-Encoding", "gzip")
	_, header, body := u.roundTrip(t, q)
	z, err := gzip.NewReader(bytes.NewReader(body))
	check(t, err)
	plain, err := io.ReadAll(z)
	check(t, err)
	if header.Get("Content-Encoding") != "gzip" || len(body) > 20_000 || len(plain) < 200_000 {
		t.Errorf("%v: %d bytes of %d", header, len(body), len(plain))
	}
	if code, header, body := u.rest(t, http.MethodHead, maps+"/a", "", ""); code != 200 || len(body) > 0 || header.Get("Content-Type") != "application/json" {
		t.Errorf("HEAD: %d %v %s", code, header, body)
	}
}

// Bodies that would grow, nest or repeat beyond reason are refused as the client's mistake, in each format.
func TestBombs(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	aliases := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for i, last := 'b', "a"; i <= 'k'; i++ {
		aliases += string(i) + ": &" + string(i) + " [" + strings.TrimSuffix(strings.Repeat("*"+last+",", 9), ",") + "]\n"
		last = string(i)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := z.Write(make([]byte, 64<<20))
	check(t, err)
	check(t, z.Close())
	// An Unknown in an Unknown in an Unknown…
	nested := []byte{}
	for range 4000 {
		nested = append(append([]byte{0x12}, binary.AppendUvarint(nil, uint64(len(nested)))...), nested...)
	}
	for name, tc := range map[string]struct {
		media, encoding, body string
		code                  int
	}{
		"aliases":       {"application/yaml", "", aliases, 400},
		"nested YAML":   {"application/yaml", "", strings.Repeat("[", 100_000), 400},
		"nested blocks": {"application/yaml", "", strings.Repeat("- ", 100_000), 400},
		"nested JSON":   {"application/json", "", `{"metadata":` + strings.Repeat(`{"a":`, 500_000), 400},
		"nested list":   {"application/json", "", `{"data":` + strings.Repeat("[", 1_000_000), 400},
		"a long list":   {"application/json", "", `{"metadata":{"name":"a","finalizers":[` + strings.Repeat(`"",`, 900_000) + `""]}}`, 400},
		"compressed":    {"application/json", "gzip", packed.String(), 415},
		"protobuf":      {"application/vnd.kubernetes.protobuf", "", "k8s\x00" + string(nested), 400},
		"lengths":       {"application/vnd.kubernetes.protobuf", "", "k8s\x00\x12\xff\xff\xff\xff\x07", 400},
	} {
		q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, u.base+maps, strings.NewReader(tc.body))
		check(t, err)
		q.Header.Set("Content-Type", tc.media)
		if tc.encoding != "" {
			q.Header.Set("Content-Encoding", tc.encoding)
		}
		code, _, body := u.roundTrip(t, q)
		if s := statusOf(t, body); code != tc.code && (tc.code == 415 || code != 422) { // what decodes is invalid
			t.Errorf("%s: %d %.200s", name, code, s.Message)
		}
	}
}
