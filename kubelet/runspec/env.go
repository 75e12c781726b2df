package runspec

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// ErrConfig marks what is wrong with a container's configuration: CreateContainerConfigError.
var ErrConfig = errors.New("container configuration")

// configError is an error whose text is the whole message and which is ErrConfig.
type configError struct{ error }

func (configError) Is(target error) bool { return target == ErrConfig }

func configf(format string, args ...any) error { return configError{fmt.Errorf(format, args...)} }

// Sources looks up what a container's environment refers to. Errors that apierrors.IsNotFound recognizes mean that the
// object does not exist.
type Sources interface {
	ConfigMap(namespace, name string) (*corev1.ConfigMap, error)
	Secret(namespace, name string) (*corev1.Secret, error)
	// File reads a file of one of the pod's volumes; fs.ErrNotExist if there is none.
	File(p *corev1.Pod, volume, path string) ([]byte, error)
}

// EnvInput is what a container's environment is made from.
type EnvInput struct {
	Pod       *corev1.Pod
	Container *corev1.Container
	Sources   Sources
	// Services of the pod's namespace, and the API server's own, "kubernetes" in "default".
	Services []*corev1.Service
	// Allocatable are the node's, which limits that are not set default to.
	Allocatable corev1.ResourceList
}

// Env is the environment that the pod gives the container, as name=value, sorted by when they were set: services first,
// then envFrom, then env. Each name is there once.
func Env(in EnvInput) ([]string, error) {
	e := &environment{values: map[string]string{}}
	for _, v := range serviceEnv(in.Services, in.Pod.Namespace, linksServices(in.Pod)) {
		e.set(v.name, v.value)
	}
	for _, from := range in.Container.EnvFrom {
		if err := e.setFrom(in, from); err != nil {
			return nil, err
		}
	}
	for _, v := range in.Container.Env {
		value, ok, err := in.value(v, e)
		if err != nil {
			return nil, err
		}
		if ok {
			e.set(v.Name, value)
		}
	}
	return e.list(), nil
}

// environment is an ordered set of variables.
type environment struct {
	names  []string
	values map[string]string
}

func (e *environment) set(name, value string) {
	if _, ok := e.values[name]; !ok {
		e.names = append(e.names, name)
	}
	e.values[name] = value
}

func (e *environment) list() []string {
	all := make([]string, 0, len(e.names))
	for _, n := range e.names {
		all = append(all, n+"="+e.values[n])
	}
	return all
}

// setFrom sets every key of a ConfigMap or Secret.
func (e *environment) setFrom(in EnvInput, from corev1.EnvFromSource) error {
	values := map[string]string{}
	switch {
	case from.ConfigMapRef != nil:
		m, err := in.Sources.ConfigMap(in.Pod.Namespace, from.ConfigMapRef.Name)
		if skip, err := missing(err, from.ConfigMapRef.Optional); skip || err != nil {
			return err
		}
		values = m.Data
	case from.SecretRef != nil:
		s, err := in.Sources.Secret(in.Pod.Namespace, from.SecretRef.Name)
		if skip, err := missing(err, from.SecretRef.Optional); skip || err != nil {
			return err
		}
		for k, v := range s.Data {
			values[k] = string(v)
		}
	}
	for _, k := range sortedKeys(values) {
		if name := from.Prefix + k; validEnvName(name) {
			e.set(name, values[k])
		}
	}
	return nil
}

// missing says whether an optional reference's lookup failed only because there is nothing.
func missing(err error, optional *bool) (skip bool, _ error) {
	if err == nil {
		return false, nil
	}
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		return true, nil
	}
	return false, configError{err}
}

// value is the value of one variable; not ok if an optional source has none.
func (in EnvInput) value(v corev1.EnvVar, e *environment) (value string, ok bool, err error) {
	from := v.ValueFrom
	if from == nil {
		return Expand(v.Value, e.lookup), true, nil
	}
	switch {
	case from.FieldRef != nil:
		value, err = Field(in.Pod, from.FieldRef.FieldPath)
	case from.ResourceFieldRef != nil:
		value, err = ResourceField(in.Pod, in.Container, from.ResourceFieldRef, in.Allocatable)
	case from.ConfigMapKeyRef != nil:
		return in.configMapKey(from.ConfigMapKeyRef)
	case from.SecretKeyRef != nil:
		return in.secretKey(from.SecretKeyRef)
	case from.FileKeyRef != nil:
		return in.fileKey(from.FileKeyRef)
	default:
		err = fmt.Errorf("environment variable %s has no source", v.Name)
	}
	if err != nil {
		return "", false, configError{err}
	}
	return value, true, nil
}

func (e *environment) lookup(name string) (string, bool) {
	v, ok := e.values[name]
	return v, ok
}

func (in EnvInput) configMapKey(ref *corev1.ConfigMapKeySelector) (string, bool, error) {
	m, err := in.Sources.ConfigMap(in.Pod.Namespace, ref.Name)
	if skip, err := missing(err, ref.Optional); skip || err != nil {
		return "", false, err
	}
	v, ok := m.Data[ref.Key]
	if !ok && (ref.Optional == nil || !*ref.Optional) {
		return "", false, configf("couldn't find key %v in ConfigMap %v/%v", ref.Key, in.Pod.Namespace, ref.Name)
	}
	return v, ok, nil
}

func (in EnvInput) secretKey(ref *corev1.SecretKeySelector) (string, bool, error) {
	s, err := in.Sources.Secret(in.Pod.Namespace, ref.Name)
	if skip, err := missing(err, ref.Optional); skip || err != nil {
		return "", false, err
	}
	v, ok := s.Data[ref.Key]
	if !ok && (ref.Optional == nil || !*ref.Optional) {
		return "", false, configf("couldn't find key %v in Secret %v/%v", ref.Key, in.Pod.Namespace, ref.Name)
	}
	return string(v), ok, nil
}

func linksServices(p *corev1.Pod) bool {
	return p.Spec.EnableServiceLinks == nil || *p.Spec.EnableServiceLinks
}

type variable struct{ name, value string }

// serviceEnv are the variables that tell a container of services: those of the pod's namespace if it links them, and the
// API server's in any case.
func serviceEnv(services []*corev1.Service, namespace string, links bool) []variable {
	byName := map[string]*corev1.Service{}
	for _, s := range services {
		if s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone || len(s.Spec.Ports) == 0 {
			continue
		}
		master := s.Namespace == metaDefault && s.Name == "kubernetes"
		switch {
		case s.Namespace == namespace && (links || master):
			byName[s.Name] = s
		case master && byName[s.Name] == nil:
			byName[s.Name] = s
		}
	}
	var vars []variable
	for _, name := range sortedKeys(byName) {
		vars = append(vars, oneServiceEnv(byName[name])...)
	}
	return vars
}

const metaDefault = "default"

func oneServiceEnv(s *corev1.Service) []variable {
	name := envCase(s.Name)
	vars := []variable{
		{name + "_SERVICE_HOST", s.Spec.ClusterIP},
		{name + "_SERVICE_PORT", fmt.Sprint(s.Spec.Ports[0].Port)},
	}
	for _, p := range s.Spec.Ports {
		if p.Name != "" {
			vars = append(vars, variable{name + "_SERVICE_PORT_" + envCase(p.Name), fmt.Sprint(p.Port)})
		}
	}
	for i, p := range s.Spec.Ports {
		protocol := string(p.Protocol)
		if protocol == "" {
			protocol = string(corev1.ProtocolTCP)
		}
		host := s.Spec.ClusterIP
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		url := fmt.Sprintf("%s://%s:%d", strings.ToLower(protocol), host, p.Port)
		if i == 0 {
			vars = append(vars, variable{name + "_PORT", url})
		}
		prefix := fmt.Sprintf("%s_PORT_%d_%s", name, p.Port, strings.ToUpper(protocol))
		vars = append(vars, variable{prefix, url}, variable{prefix + "_PROTO", strings.ToLower(protocol)},
			variable{prefix + "_PORT", fmt.Sprint(p.Port)}, variable{prefix + "_ADDR", s.Spec.ClusterIP})
	}
	return vars
}

func envCase(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "-", "_")) }

// validEnvName follows the API: any printable ASCII but '='. Keys that do not fit are left out, as documented for envFrom.
func validEnvName(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' || s[i] == '=' {
			return false
		}
	}
	return true
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
