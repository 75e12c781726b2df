package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	// bodyLimit is how much of an answer goes into a message.
	bodyLimit = 10 << 10
	// redirects are followed as far as a browser would.
	redirects = 10
	// userAgent is what servers know Kubernetes' probes by.
	userAgent = "kube-probe/1.37"
)

// Target is what is probed.
type Target struct {
	// Host is the pod's address.
	Host      string
	Container *corev1.Container
	// Exec runs a command in the container and returns its combined output and exit code.
	Exec func(ctx context.Context, command []string) (output string, code int, err error)
}

// Probe makes one attempt. ctx carries its timeout.
func Probe(ctx context.Context, spec *corev1.Probe, t Target) Result {
	switch {
	case spec.Exec != nil:
		return probeExec(ctx, spec.Exec, t)
	case spec.HTTPGet != nil:
		return probeHTTP(ctx, spec.HTTPGet, t)
	case spec.TCPSocket != nil:
		return probeTCP(ctx, spec.TCPSocket, t)
	case spec.GRPC != nil:
		return probeGRPC(ctx, spec.GRPC, t)
	}
	return Result{Outcome: Errored, Message: "missing probe handler"}
}

func probeExec(ctx context.Context, e *corev1.ExecAction, t Target) Result {
	out, code, err := t.Exec(ctx, e.Command)
	switch {
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return Result{Outcome: Failure, Message: fmt.Sprintf("command timed out: %q timed out", strings.Join(e.Command, " "))}
	case err != nil:
		return Result{Outcome: Errored, Message: err.Error()}
	case code != 0:
		return Result{Outcome: Failure, Message: out}
	}
	return Result{Outcome: Success, Message: out}
}

func probeHTTP(ctx context.Context, h *corev1.HTTPGetAction, t Target) Result {
	request, err := HTTPRequest(ctx, h, t.Host, t.Container)
	if err != nil {
		return Result{Outcome: Errored, Message: err.Error()}
	}
	response, err := httpClient().Do(request)
	if err != nil {
		return failed(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, bodyLimit))
	if err != nil {
		return Result{Outcome: Failure, Message: err.Error()}
	}
	if response.StatusCode >= http.StatusOK && response.StatusCode < http.StatusBadRequest {
		r := Result{Outcome: Success, Message: string(body)}
		if response.StatusCode >= http.StatusMultipleChoices {
			r.Warning = "Probe terminated redirects, Response body: " + r.Message
		}
		return r
	}
	return Result{Outcome: Failure, Message: fmt.Sprintf("HTTP probe failed with statuscode: %d", response.StatusCode)}
}

// HTTPRequest makes the request of an httpGet probe or hook.
func HTTPRequest(ctx context.Context, h *corev1.HTTPGetAction, host string, c *corev1.Container) (*http.Request, error) {
	port, err := Port(h.Port, c)
	if err != nil {
		return nil, err
	}
	if h.Host != "" {
		host = h.Host
	}
	scheme := "http"
	if h.Scheme != "" {
		scheme = strings.ToLower(string(h.Scheme))
	}
	u, err := url.Parse(h.Path)
	if err != nil {
		u = &url.URL{Path: h.Path}
	}
	u.Scheme, u.Host = scheme, net.JoinHostPort(host, strconv.Itoa(port))
	if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for _, header := range h.HTTPHeaders {
		if strings.EqualFold(header.Name, "Host") {
			request.Host = header.Value
			continue
		}
		request.Header.Add(header.Name, header.Value)
	}
	if _, given := request.Header["User-Agent"]; !given { // an empty one sends none
		request.Header.Set("User-Agent", userAgent)
	}
	if given := request.Header["Accept"]; given == nil {
		request.Header.Set("Accept", "*/*")
	} else if given[0] == "" {
		request.Header.Del("Accept")
	}
	return request, nil
}

// httpClient trusts any certificate, as the API says of HTTPS probes, keeps no connection, and follows redirects on the
// same host only: an answer that sends us elsewhere is an answer.
func httpClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:    &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // the API documents it
			DisableKeepAlives:  true,
			DisableCompression: true,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if r.URL.Hostname() != via[0].URL.Hostname() {
				return http.ErrUseLastResponse
			}
			if len(via) >= redirects {
				return fmt.Errorf("stopped after %d redirects", redirects)
			}
			return nil
		},
	}
}

// Do makes a hook's request; any answer is success.
func Do(ctx context.Context, h *corev1.HTTPGetAction, host string, c *corev1.Container) error {
	request, err := HTTPRequest(ctx, h, host, c)
	if err != nil {
		return err
	}
	response, err := httpClient().Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, bodyLimit))
	return nil
}

func probeTCP(ctx context.Context, s *corev1.TCPSocketAction, t Target) Result {
	port, err := Port(s.Port, t.Container)
	if err != nil {
		return Result{Outcome: Errored, Message: err.Error()}
	}
	host := t.Host
	if s.Host != "" {
		host = s.Host
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return failed(err)
	}
	_ = conn.Close()
	return Result{Outcome: Success, Message: ""}
}

// failed is the result of a connection that did not come about.
func failed(err error) Result {
	return Result{Outcome: Failure, Message: err.Error(), NotListening: errors.Is(err, syscall.ECONNREFUSED)}
}

func probeGRPC(ctx context.Context, g *corev1.GRPCAction, t Target) Result {
	service := ""
	if g.Service != nil {
		service = *g.Service
	}
	address := net.JoinHostPort(t.Host, strconv.Itoa(int(g.Port)))
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUserAgent(userAgent), grpc.WithNoProxy())
	if err != nil {
		return Result{Outcome: Errored, Message: err.Error()}
	}
	defer conn.Close()
	answer, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{Service: service})
	switch status.Code(err) {
	case codes.OK:
	case codes.Unimplemented:
		return Result{Outcome: Failure, Message: "server doesn't implement the grpc health protocol: " + err.Error()}
	case codes.DeadlineExceeded:
		return Result{Outcome: Failure, Message: fmt.Sprintf("timeout: health rpc did not complete within %s", remaining(ctx))}
	case codes.Unavailable:
		// gRPC wraps the dial's error in text; whether anybody listens is asked once more, directly.
		r := probeTCP(ctx, &corev1.TCPSocketAction{Port: intstr.FromInt32(g.Port)}, t)
		return Result{Outcome: Failure, Message: fmt.Sprintf("timeout: failed to connect service %q: %v", address, err), NotListening: r.NotListening}
	default:
		return Result{Outcome: Failure, Message: "health rpc probe failed: " + err.Error()}
	}
	if s := answer.GetStatus(); s != healthv1.HealthCheckResponse_SERVING {
		return Result{Outcome: Failure, Message: fmt.Sprintf("service unhealthy (responded with %q)", s)}
	}
	return Result{Outcome: Success, Message: "service healthy"}
}

func remaining(ctx context.Context) time.Duration {
	deadline, _ := ctx.Deadline()
	return max(time.Until(deadline), 0)
}

// Port resolves a port by number or by its name in the container.
func Port(p intstr.IntOrString, c *corev1.Container) (int, error) {
	if p.Type == intstr.Int {
		return checkPort(p.IntValue())
	}
	for _, named := range c.Ports {
		if named.Name == p.StrVal {
			return checkPort(int(named.ContainerPort))
		}
	}
	if n, err := strconv.Atoi(p.StrVal); err == nil {
		return checkPort(n)
	}
	return 0, fmt.Errorf("couldn't find port: %q in container %s", p.StrVal, c.Name)
}

func checkPort(n int) (int, error) {
	if n <= 0 || n > 65535 {
		return 0, fmt.Errorf("invalid port number: %d", n)
	}
	return n, nil
}
