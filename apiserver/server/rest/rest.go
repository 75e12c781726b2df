// Package rest is the Kubernetes door: the REST contract that kubectl, client-go and curl rely on, over net/http. Like the gRPC
// door it translates between requests and the pipeline and decides nothing.
//
//	handler := rest.New(rest.Config{Pipeline: p, Authenticator: auth, …})
//	server := &http.Server{Handler: handler}
package rest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/authz"
	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/server/inflight"
)

// Config is what a Handler is made of.
type Config struct {
	Pipeline      *pipeline.Pipeline
	Authenticator *authn.Authenticator
	Limiter       *inflight.Limiter
	// Admin serves the process's own endpoints, by path prefix: health, metrics, profiles. They are authorized like all.
	Admin map[string]http.Handler
	// Issuer publishes its keys; nil publishes none.
	Issuer  *authn.Issuer
	Version version.Info
	// GRPC serves gRPC requests that came over an HTTP connection.
	GRPC http.Handler
	// Nodes serves logs, exec, attach and port-forwarding; nil serves none.
	Nodes Nodes
	// Backends are what the proxy subresources lead to; nil serves none.
	Backends Backends
	// Aggregated are the APIs of other servers; nil has none.
	Aggregated Aggregated
	// Flows classifies requests; nil classifies none.
	Flows Flows
	// LongRunning is told +1 when a watch begins and -1 when it ends.
	LongRunning func(r *pipeline.Request, delta int)
	Now         func() time.Time
	Log         *slog.Logger
}

// streamFunc serves a subresource that is a stream or a proxied request, which q is to the pipeline.
type streamFunc func(w http.ResponseWriter, r *http.Request, q *pipeline.Request, t target) error

// Handler is the REST door.
type Handler struct {
	cfg   Config
	paths *http.ServeMux
	// streams are the subresources that are streams to a node, by "group/resource/subresource".
	streams map[string]func(w http.ResponseWriter, r *http.Request, caller pipeline.Caller, t target) error
	zips    sync.Pool // of *gzip.Writer
	// stopping ends when watches must.
	stopping context.Context
	stop     context.CancelFunc
}

// Stop ends the watches, whose clients go on elsewhere.
func (h *Handler) Stop() { h.stop() }

// New returns the door.
func New(cfg Config) *Handler {
	h := &Handler{cfg: cfg, paths: http.NewServeMux()}
	h.stopping, h.stop = context.WithCancel(context.Background())
	h.discoveryRoutes()
	h.openapiRoutes()
	h.streamRoutes()
	for prefix, handler := range cfg.Admin {
		h.paths.Handle(prefix, handler)
	}
	h.paths.HandleFunc("GET /version", h.version)
	h.paths.HandleFunc("GET /version/{$}", h.version)
	if cfg.Issuer != nil {
		h.paths.HandleFunc("GET /openid/v1/jwks", h.jwks)
		h.paths.HandleFunc("GET /.well-known/openid-configuration", h.openid)
	}
	h.paths.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { h.fail(w, r, notFound()) })
	return h
}

// enter counts a request against the bounds, from which administrators are exempt.
func (h *Handler) enter(caller pipeline.Caller, kind inflight.Kind) (leave func(), err error) {
	return h.cfg.Limiter.Enter(kind, caller.User.In(authn.Masters))
}

type callerKey struct{}

func callerOf(ctx context.Context) pipeline.Caller {
	c, _ := ctx.Value(callerKey{}).(pipeline.Caller)
	return c
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") && h.cfg.GRPC != nil {
		h.cfg.GRPC.ServeHTTP(w, r)
		return
	}
	id, start := h.auditID(w, r), h.cfg.Now()
	caller, err := h.identify(r)
	caller.AuditID = id
	if err != nil {
		h.cfg.Pipeline.Observed(r.Context(), nonResource(r, caller), start, err)
		h.fail(w, r, err)
		return
	}
	h.withoutCredentials(r.Header)
	// What is said to one must not be kept for another; documents for everybody say so themselves.
	w.Header().Set("Cache-Control", "no-cache, private")
	r = r.WithContext(context.WithValue(r.Context(), callerKey{}, caller))
	h.classify(w, r, caller)
	if h.serveAggregated(w, r, caller) || h.serveResource(w, r, caller) {
		return
	}
	if _, err := deadline(r.URL.Query()); err != nil {
		h.fail(w, r, err)
		return
	}
	a := &authz.Attributes{User: caller.User, Verb: strings.ToLower(r.Method), Path: r.URL.Path}
	if err := h.cfg.Pipeline.AuthorizeAttributes(r.Context(), a); err != nil {
		h.cfg.Pipeline.Observed(r.Context(), nonResource(r, caller), start, err)
		h.fail(w, r, err)
		return
	}
	if isHealth(r.URL.Path) { // it is asked for every second, by anybody
		h.paths.ServeHTTP(w, r)
		return
	}
	answer := &answered{ResponseWriter: w}
	h.paths.ServeHTTP(answer, r)
	h.cfg.Pipeline.Observed(r.Context(), nonResource(r, caller), start, answer.err())
}

// answered remembers how a request was answered.
type answered struct {
	http.ResponseWriter
	code int
}

// WriteHeader implements http.ResponseWriter.
func (a *answered) WriteHeader(code int) {
	a.code = code
	a.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (a *answered) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answered) err() error {
	if a.code < http.StatusBadRequest {
		return nil
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: int32(a.code)}}
}

// nonResource is a request that is about no resource, or of which nothing is known, for the observers.
func nonResource(r *http.Request, caller pipeline.Caller) *pipeline.Request {
	return &pipeline.Request{Caller: caller, Verb: pipeline.Verb(strings.ToLower(r.Method))}
}

func isHealth(path string) bool {
	head, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return head == "healthz" || head == "livez" || head == "readyz"
}

// auditHeader is where a request's name in the audit log is, in requests and answers.
const auditHeader = "Audit-Id"

// auditID is the name that the client has given the request, or a new one. It is sent with the answer.
func (h *Handler) auditID(w http.ResponseWriter, r *http.Request) string {
	id := r.Header.Get(auditHeader)
	if id == "" {
		id = h.cfg.Pipeline.NewID()
	}
	w.Header().Set(auditHeader, id)
	return id
}

// identify authenticates a request.
func (h *Handler) identify(r *http.Request) (pipeline.Caller, error) {
	caller := pipeline.Caller{Door: "rest", UserAgent: r.UserAgent(), Address: r.RemoteAddr, URI: r.URL.RequestURI()}
	cred := authn.Credentials{Header: r.Header, Path: r.URL.Path}
	if r.TLS != nil {
		cred.Chains = r.TLS.VerifiedChains
	}
	if scheme, token, ok := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " "); ok && strings.EqualFold(scheme, "bearer") {
		cred.Token = strings.TrimSpace(token)
	}
	if cred.Token == "" && isWebSocket(r) {
		cred.Token = socketToken(r)
	}
	id, err := h.cfg.Authenticator.Authenticate(r.Context(), cred)
	if err != nil {
		h.cfg.Log.Info("refused credentials", "address", r.RemoteAddr, "error", err)
		return caller, pipeline.Unauthorized()
	}
	caller.User = id
	return h.impersonate(r, caller)
}

// bearerProtocol begins the WebSocket protocol that is a bearer token: browsers can set no header there.
const bearerProtocol = "base64url.bearer.authorization.k8s.io."

// socketToken takes the token out of a WebSocket's protocols, and the protocol away, so that nobody else sees or chooses it. As in
// Kubernetes another protocol must be offered beside it, which then is the one that is spoken.
func socketToken(r *http.Request) string {
	token, offered := "", []string{}
	for _, p := range subprotocols(r) {
		encoded, ok := strings.CutPrefix(p, bearerProtocol)
		if !ok {
			offered = append(offered, p)
			continue
		}
		if plain, err := base64.RawURLEncoding.DecodeString(encoded); err == nil && token == "" {
			token = string(plain)
		}
	}
	if token == "" || len(offered) == 0 {
		return ""
	}
	r.Header["Sec-Websocket-Protocol"] = []string{strings.Join(offered, ", ")}
	return token
}

// withoutCredentials drops what has said who the caller is. Whoever the request is passed on to must not be able to say it.
func (h *Handler) withoutCredentials(header http.Header) {
	proxies := h.cfg.Authenticator.Proxies
	for name := range header {
		if name == "Authorization" || strings.HasPrefix(name, "Impersonate-") || strings.HasPrefix(name, "X-Remote-") || proxies != nil && proxies.Headers(name) {
			delete(header, name)
		}
	}
}

// impersonate looks at the headers that ask for another identity; most requests have none.
func (h *Handler) impersonate(r *http.Request, caller pipeline.Caller) (pipeline.Caller, error) {
	asked := map[string][]string{}
	for name, values := range r.Header {
		if strings.HasPrefix(name, "Impersonate-") {
			asked[strings.ToLower(name)] = values
		}
	}
	if len(asked) == 0 {
		return caller, nil
	}
	return h.cfg.Pipeline.Impersonate(r.Context(), caller, asked)
}

func (h *Handler) version(w http.ResponseWriter, _ *http.Request) {
	b, err := json.MarshalIndent(h.cfg.Version, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(b)
}

func (h *Handler) jwks(w http.ResponseWriter, r *http.Request) {
	b, err := h.cfg.Issuer.KeySet()
	h.document(w, r, "application/jwk-set+json", b, err)
}

func (h *Handler) openid(w http.ResponseWriter, r *http.Request) {
	b, err := h.cfg.Issuer.Discovery("https://" + r.Host + "/openid/v1/jwks")
	h.document(w, r, "application/json", b, err)
}

// document sends a public document that clients may keep for an hour.
func (h *Handler) document(w http.ResponseWriter, r *http.Request, contentType string, b []byte, err error) {
	if err != nil {
		h.fail(w, r, apierrors.NewInternalError(err))
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "public, max-age=3600")
	w.Write(b)
}

// fail answers with the error's metav1.Status.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return // nobody is there to read it
	}
	var warned *pipeline.WarnedError
	if errors.As(err, &warned) {
		addWarnings(w, warned.Warnings)
	}
	h.writeStatus(w, r, statusOf(err))
}
