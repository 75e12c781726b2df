package podspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
)

func (s *scope) checkProbes(c *corev1.Container, at *field.Path) {
	once := func(p *corev1.Probe, at *field.Path) {
		if p == nil {
			return
		}
		s.checkProbe(p, at)
		if p.SuccessThreshold != 1 {
			s.Invalid(at.Child("successThreshold"), p.SuccessThreshold, "must be 1")
		}
	}
	once(c.LivenessProbe, at.Child("livenessProbe"))
	if p := c.ReadinessProbe; p != nil {
		s.checkProbe(p, at.Child("readinessProbe"))
		if p.TerminationGracePeriodSeconds != nil {
			s.Invalid(at.Child("readinessProbe", "terminationGracePeriodSeconds"), *p.TerminationGracePeriodSeconds,
				"must not be set for readinessProbes")
		}
	}
	once(c.StartupProbe, at.Child("startupProbe"))
}

func (s *scope) checkProbe(p *corev1.Probe, at *field.Path) {
	s.checkHandler(handler{p.Exec, p.HTTPGet, p.TCPSocket, p.GRPC, nil}, at)
	s.NonNegative(at.Child("initialDelaySeconds"), int64(p.InitialDelaySeconds))
	s.NonNegative(at.Child("timeoutSeconds"), int64(p.TimeoutSeconds))
	s.NonNegative(at.Child("periodSeconds"), int64(p.PeriodSeconds))
	s.NonNegative(at.Child("successThreshold"), int64(p.SuccessThreshold))
	s.NonNegative(at.Child("failureThreshold"), int64(p.FailureThreshold))
	if g := p.TerminationGracePeriodSeconds; g != nil && *g <= 0 {
		s.Invalid(at.Child("terminationGracePeriodSeconds"), *g, "must be greater than 0")
	}
}

// handler is what probes and lifecycle hooks have in common.
type handler struct {
	exec  *corev1.ExecAction
	http  *corev1.HTTPGetAction
	tcp   *corev1.TCPSocketAction
	grpc  *corev1.GRPCAction
	sleep *corev1.SleepAction
}

func (s *scope) checkHandler(h handler, at *field.Path) {
	kinds := 0
	// one reports whether this handler, if it is set, is the first and so the one to be looked into.
	one := func(set bool, name string) bool {
		if !set {
			return false
		}
		if kinds++; kinds > 1 {
			s.Forbidden(at.Child(name), "may not specify more than 1 handler type")
		}
		return kinds == 1
	}
	if one(h.exec != nil, "exec") && len(h.exec.Command) == 0 {
		s.Required(at.Child("exec", "command"), "")
	}
	if one(h.http != nil, "httpGet") {
		s.checkHTTPGet(h.http, at.Child("httpGet"))
	}
	if one(h.tcp != nil, "tcpSocket") {
		s.PortOrName(at.Child("tcpSocket", "port"), h.tcp.Port)
	}
	if one(h.grpc != nil, "grpc") {
		s.PortOrName(at.Child("grpc", "port"), intstr.FromInt32(h.grpc.Port))
	}
	if one(h.sleep != nil, "sleep") && s.grace != nil && (h.sleep.Seconds < 0 || h.sleep.Seconds > *s.grace) {
		s.Invalid(at.Child("sleep"), h.sleep.Seconds,
			fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", *s.grace))
	}
	if kinds == 0 {
		s.Required(at, "must specify a handler type")
	}
}

func (s *scope) checkHTTPGet(h *corev1.HTTPGetAction, at *field.Path) {
	s.Present(at.Child("path"), h.Path)
	s.PortOrName(at.Child("port"), h.Port)
	check.Supported(s.Errors, at.Child("scheme"), h.Scheme, corev1.URISchemeHTTP, corev1.URISchemeHTTPS)
	for _, header := range h.HTTPHeaders {
		s.Each(at.Child("httpHeaders"), header.Name, validation.IsHTTPHeaderName(header.Name))
	}
}

func (s *scope) checkLifecycle(l *corev1.Lifecycle, at *field.Path) {
	if l == nil {
		return
	}
	if h := l.PostStart; h != nil {
		s.checkHandler(handler{h.Exec, h.HTTPGet, h.TCPSocket, nil, h.Sleep}, at.Child("postStart"))
	}
	if h := l.PreStop; h != nil {
		s.checkHandler(handler{h.Exec, h.HTTPGet, h.TCPSocket, nil, h.Sleep}, at.Child("preStop"))
	}
	if l.StopSignal != nil {
		s.checkStopSignal(*l.StopSignal, at.Child("stopSignal"))
	}
}

func (s *scope) checkStopSignal(signal corev1.Signal, at *field.Path) {
	switch s.osName {
	case "":
		s.Forbidden(at, "may not be set for containers with empty `spec.os.name`")
	case corev1.Windows:
		check.Supported(s.Errors, at, signal, corev1.SIGKILL, corev1.SIGTERM)
	case corev1.Linux:
		if !isSignal(string(signal)) {
			s.Add(field.NotSupported(at, signal, linuxSignals()))
		}
	}
}

// The fields that the downward API offers, and where.
var (
	envFieldPaths = []string{
		"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
		"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
	}
	volumeFieldPaths = []string{
		"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid",
	}
	resourceFields = []string{
		"limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory",
	}
)

func (s *scope) checkFieldRef(r *corev1.ObjectFieldSelector, allowed []string, at *field.Path) {
	if !s.Present(at.Child("apiVersion"), r.APIVersion) || !s.Present(at.Child("fieldPath"), r.FieldPath) {
		return
	}
	if r.APIVersion != "v1" {
		s.Invalid(at.Child("fieldPath"), r.FieldPath,
			fmt.Sprintf("error converting fieldPath: unsupported pod version: %s", r.APIVersion))
		return
	}
	name, subscript, subscripted := splitSubscript(r.FieldPath)
	if subscripted {
		switch name {
		case "metadata.annotations":
			s.QualifiedName(at, strings.ToLower(subscript))
		case "metadata.labels":
			s.QualifiedName(at, subscript)
		default:
			s.Invalid(at.Child("fieldPath"), r.FieldPath, "error converting fieldPath: field label does not support subscript: "+r.FieldPath)
		}
		return
	}
	if !isPodField(name) {
		s.Invalid(at.Child("fieldPath"), r.FieldPath, "error converting fieldPath: field label not supported: "+r.FieldPath)
		return
	}
	if name == "spec.host" {
		name = "spec.nodeName"
	}
	if !slices.Contains(allowed, name) {
		s.Add(field.NotSupported(at.Child("fieldPath"), name, allowed))
	}
}

// isPodField knows every field that the downward API has names for, wherever they may be used.
func isPodField(name string) bool {
	return name == "spec.host" || name == "spec.restartPolicy" || name == "spec.schedulerName" || name == "status.phase" ||
		slices.Contains(envFieldPaths, name) || slices.Contains(volumeFieldPaths, name)
}

// splitSubscript splits metadata.labels['key'] into its two parts.
func splitSubscript(p string) (name, subscript string, ok bool) {
	rest, ok := strings.CutSuffix(p, "']")
	if !ok {
		return p, "", false
	}
	name, subscript, ok = strings.Cut(rest, "['")
	if !ok || name == "" {
		return p, "", false
	}
	return name, subscript, true
}

func (s *scope) checkResourceFieldRef(r *corev1.ResourceFieldSelector, inVolume bool, at *field.Path) {
	hugepages := strings.HasPrefix(r.Resource, "requests.hugepages-") || strings.HasPrefix(r.Resource, "limits.hugepages-")
	switch {
	case inVolume && r.ContainerName == "":
		s.Required(at.Child("containerName"), "")
	case r.Resource == "":
		s.Required(at.Child("resource"), "")
	case !hugepages && !slices.Contains(resourceFields, r.Resource):
		s.Add(field.NotSupported(at.Child("resource"), r.Resource, resourceFields))
	}
	if !r.Divisor.IsZero() {
		s.checkDivisor(r, hugepages, at.Child("divisor"))
	}
}

func (s *scope) checkDivisor(r *corev1.ResourceFieldSelector, hugepages bool, at *field.Path) {
	const sizes = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei"
	must := func(allowed, detail string) {
		if !slices.Contains(strings.Split(allowed, ", "), r.Divisor.String()) {
			s.Invalid(at, r.Resource, detail)
		}
	}
	switch _, what, _ := strings.Cut(r.Resource, "."); {
	case what == "cpu":
		must("1m, 1", "only divisor's values 1m and 1 are supported with the cpu resource")
	case what == "memory":
		must(sizes, "only divisor's values "+sizes+" are supported with the memory resource")
	case what == "ephemeral-storage":
		must(sizes, "only divisor's values "+sizes+" are supported with the local ephemeral storage resource")
	case hugepages:
		must(sizes, "only divisor's values "+sizes+" are supported with the hugepages resource")
	}
}
