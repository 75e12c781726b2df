// Package webhook calls other servers' HTTPS endpoints on behalf of the API server: admission webhooks and the conversion of custom
// resources. A call is one JSON POST over verified TLS, and everything about it is bounded: its time by the context, its answer by the
// size of the question, its connections by the client.
//
//	client := webhook.New(network.Dial)
//	err := client.Call(ctx, webhook.Target{Service: &webhook.Service{Namespace: "ops", Name: "hook", Path: "/mutate"}, CABundle: ca}, &review, &answer)
//
// A target is a URL, or a Service of the cluster. A service's certificate must be good for <name>.<namespace>.svc
// (https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#contacting-the-webhook); which of its
// endpoints is spoken to is for the dialler to say, anew for each connection.
package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// DefaultPort is a service's port if its reference names none.
const DefaultPort = 443

// Target is where to call: either URL or Service is set.
type Target struct {
	// URL is https, without user, query or fragment.
	URL string
	// Service of the cluster.
	Service *Service
	// CABundle are the authorities, in PEM, that the server's certificate must come from; empty means the host's own.
	CABundle []byte
	// Query is appended to the address, such as "timeout=10s" of admission webhooks.
	Query string
}

// Service names a Service's port, and a path on the servers behind it.
type Service struct {
	Namespace, Name, Path string
	// Port is the service's, not its pods'; 0 means DefaultPort.
	Port int32
}

const (
	// answerFloor and answerFactor bound an answer: reviews and conversions answer with about as much as they were sent, JSON patches come
	// in base64 (4/3) and quoted, so four times the question and room for four MiB of added content are more than enough.
	answerFloor  = 4 << 20
	answerFactor = 4
	// maxMessage is how much of a failure's text is passed on.
	maxMessage = 2048
)

// ErrTooLarge means that an answer was longer than the client reads.
var ErrTooLarge = errors.New("the answer is too large")

// Call posts request as JSON and decodes the answer into response. It fails with *apierrors.StatusError if the server answered with
// anything but 2xx, with ErrTooLarge, with *json.SyntaxError and the like if the answer is no JSON of the response's shape, and with
// *url.Error if there was no answer at all.
func (c *Client) Call(ctx context.Context, t Target, request, response any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encoding the request: %w", err)
	}
	address, err := t.address()
	if err != nil {
		return err
	}
	doer, err := c.pool(&t, address)
	if err != nil {
		return err
	}
	if t.Query != "" {
		address.RawQuery = t.Query
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, */*")
	req.Header.Set("User-Agent", "bareboat-apiserver-admission")
	res, err := doer.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := read(res.Body, answerFloor+answerFactor*int64(len(body)))
	if err != nil {
		return err
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return failure(res, answer)
	}
	if err := json.Unmarshal(answer, response); err != nil {
		return fmt.Errorf("decoding the response: %w", err)
	}
	return nil
}

// address is the URL that a target is called by. A service's is its name in the cluster, whatever it is dialled by.
func (t *Target) address() (*url.URL, error) {
	switch {
	case t.Service != nil && t.URL == "":
		u := &url.URL{Scheme: "https", Host: t.Service.host() + ":" + strconv.Itoa(int(t.Service.port()))}
		u.Path = "/" + strings.TrimPrefix(t.Service.Path, "/")
		return u, nil
	case t.Service == nil && t.URL != "":
		u, err := url.Parse(t.URL)
		if err != nil {
			return nil, err
		}
		if u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("%q is no https URL", t.URL)
		}
		return u, nil
	}
	return nil, errors.New("a webhook needs either a URL or a service")
}

func (s *Service) host() string { return s.Name + "." + s.Namespace + ".svc" }

func (s *Service) port() int32 {
	if s.Port == 0 {
		return DefaultPort
	}
	return s.Port
}

func read(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: limit is %d", ErrTooLarge, limit)
	}
	return b, nil
}

// failure is the error of an answer that is none, in the words of Kubernetes' own client.
func failure(res *http.Response, body []byte) error {
	message := "unknown"
	if media, _, err := mime.ParseMediaType(res.Header.Get("Content-Type")); err != nil || strings.HasPrefix(media, "text/") {
		message = strings.TrimSpace(string(body[:min(len(body), maxMessage)]))
	}
	return apierrors.NewGenericServerResponse(res.StatusCode, http.MethodPost, schema.GroupResource{}, "", message, 0, true)
}
