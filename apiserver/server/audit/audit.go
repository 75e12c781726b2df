// Package audit writes a line for each request that has ended: an Event of audit.k8s.io/v1 at level Metadata, in JSON, as
// kube-apiserver's log backend does (https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/).
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/pipeline"
)

// event has the fields of audit.k8s.io/v1 Event that level Metadata fills.
type event struct {
	Kind       string         `json:"kind"`
	APIVersion string         `json:"apiVersion"`
	Level      string         `json:"level"`
	AuditID    string         `json:"auditID"`
	Stage      string         `json:"stage"`
	URI        string         `json:"requestURI"`
	Verb       string         `json:"verb"`
	User       user           `json:"user"`
	As         *user          `json:"impersonatedUser,omitempty"`
	SourceIPs  []string       `json:"sourceIPs,omitempty"`
	UserAgent  string         `json:"userAgent,omitempty"`
	Object     *objectRef     `json:"objectRef,omitempty"`
	Response   *metav1.Status `json:"responseStatus"`
	Received   string         `json:"requestReceivedTimestamp"`
	Completed  string         `json:"stageTimestamp"`
	Notes      map[string]any `json:"annotations,omitempty"`
}

type user struct {
	Username string              `json:"username"`
	UID      string              `json:"uid,omitempty"`
	Groups   []string            `json:"groups,omitempty"`
	Extra    map[string][]string `json:"extra,omitempty"`
}

type objectRef struct {
	Resource    string `json:"resource,omitempty"`
	Namespace   string `json:"namespace,omitempty"`
	Name        string `json:"name,omitempty"`
	APIGroup    string `json:"apiGroup,omitempty"`
	APIVersion  string `json:"apiVersion,omitempty"`
	Subresource string `json:"subresource,omitempty"`
}

// Log writes events; it is a pipeline.Observer.
type Log struct {
	mu  sync.Mutex
	out *json.Encoder
	log *slog.Logger
}

// New returns a log that writes to w, one line an event.
func New(w io.Writer, log *slog.Logger) *Log { return &Log{out: json.NewEncoder(w), log: log} }

const microTime = "2006-01-02T15:04:05.000000Z07:00"

// Observe implements pipeline.Observer.
func (l *Log) Observe(_ context.Context, o *pipeline.Observation) {
	r := o.Request
	e := event{
		Kind: "Event", APIVersion: "audit.k8s.io/v1", Level: "Metadata", AuditID: idOf(r), Stage: "ResponseComplete", Verb: string(r.Verb), UserAgent: r.UserAgent,
		URI: r.URI, Response: response(o), Received: stamp(o.Start), Completed: stamp(o.End), Notes: map[string]any{"bareboat.dev/door": r.Door},
	}
	for key, value := range r.Notes.All() {
		e.Notes[key] = value
	}
	if r.Resource != "" {
		e.Object = &objectRef{r.Resource, r.Namespace, r.Name, r.Group, r.Version, r.Subresource}
	}
	if r.User != nil {
		e.User = *userOf(r.User)
	}
	if r.Real != nil {
		e.User, e.As = *userOf(r.Real), userOf(r.User)
	}
	if host, _, err := net.SplitHostPort(r.Address); err == nil {
		e.SourceIPs = []string{host}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.out.Encode(e); err != nil {
		l.log.Error("writing the audit log failed", "error", err)
	}
}

func userOf(id *authn.Identity) *user { return &user{id.Name, id.UID, id.Groups, id.Extra} }

// idOf is the name of a request; one whose client is not told gets its own here.
func idOf(r *pipeline.Request) string {
	if r.AuditID != "" {
		return r.AuditID
	}
	return string(uuid.NewUUID())
}

func stamp(t time.Time) string { return t.UTC().Format(microTime) }

func response(o *pipeline.Observation) *metav1.Status {
	var api apierrors.APIStatus
	if errors.As(o.Err, &api) {
		s := api.Status()
		return &metav1.Status{Status: s.Status, Code: s.Code, Reason: s.Reason, Message: s.Message}
	}
	return &metav1.Status{Code: int32(pipeline.Code(o.Err))}
}
