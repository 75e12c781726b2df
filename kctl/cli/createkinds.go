package cli

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func (s *session) createQuota() *cobra.Command {
	var hard string
	var scopes []string
	c := s.builder("quota", "Create a resource quota", func(c *cobra.Command) {
		c.Flags().StringVar(&hard, "hard", "", "limits as `RESOURCE=QUANTITY,…`, e.g. cpu=4,pods=20")
		c.Flags().StringSliceVar(&scopes, "scopes", nil, "count only objects of these `scopes`, e.g. BestEffort")
	}, func(context.Context, string) (map[string]any, error) {
		limits, err := quantities("--hard", hard)
		if err != nil {
			return nil, err
		}
		o, spec := object("v1", "ResourceQuota"), map[string]any{}
		if len(limits) > 0 {
			spec["hard"] = limits
		}
		if len(scopes) > 0 {
			spec["scopes"] = anyList(scopes)
		}
		o["spec"] = spec
		return o, nil
	})
	c.Aliases = []string{"resourcequota"}
	return c
}

func (s *session) createDisruptionBudget() *cobra.Command {
	var selector, available, unavailable string
	c := s.builder("poddisruptionbudget", "Create a disruption budget of the pods that a selector selects", func(c *cobra.Command) {
		c.Flags().StringVar(&selector, "selector", "", "label `selector` of the pods")
		c.Flags().StringVar(&available, "min-available", "", "`number` or percentage of pods that must stay")
		c.Flags().StringVar(&unavailable, "max-unavailable", "", "`number` or percentage of pods that may be missing")
		_ = c.MarkFlagRequired("selector")
	}, func(context.Context, string) (map[string]any, error) {
		if (available == "") == (unavailable == "") {
			return nil, errors.New("one of min-available or max-unavailable must be specified, and not both")
		}
		match, err := selectorObject(selector)
		if err != nil {
			return nil, err
		}
		spec := map[string]any{"selector": match}
		if available != "" {
			spec["minAvailable"] = numberOrText(available)
		} else {
			spec["maxUnavailable"] = numberOrText(unavailable)
		}
		o := object("policy/v1", "PodDisruptionBudget")
		o["spec"] = spec
		return o, nil
	})
	c.Aliases = []string{"pdb"}
	return c
}

// selectorObject is a label selector as objects hold it.
func selectorObject(text string) (map[string]any, error) {
	sel, err := metav1.ParseToLabelSelector(text)
	if err != nil {
		return nil, fmt.Errorf("--selector: %w", err)
	}
	out := map[string]any{}
	if len(sel.MatchLabels) > 0 {
		out["matchLabels"] = anyMap(sel.MatchLabels)
	}
	var expressions []any
	for _, e := range sel.MatchExpressions {
		m := map[string]any{"key": e.Key, "operator": string(e.Operator)}
		if len(e.Values) > 0 {
			m["values"] = anyList(e.Values)
		}
		expressions = append(expressions, m)
	}
	if len(expressions) > 0 {
		out["matchExpressions"] = expressions
	}
	return out, nil
}

// numberOrText is an int-or-string field.
func numberOrText(text string) any {
	if n, err := strconv.ParseInt(text, 10, 32); err == nil {
		return n
	}
	return text
}

func (s *session) createPriorityClass() *cobra.Command {
	var value int32
	var global bool
	var description, preemption string
	c := s.builder("priorityclass", "Create a priority class", func(c *cobra.Command) {
		c.Flags().Int32Var(&value, "value", 0, "`priority` of its pods: higher goes first")
		c.Flags().BoolVar(&global, "global-default", false, "pods that name no class get this one")
		c.Flags().StringVar(&description, "description", "", "when to use the class")
		c.Flags().StringVar(&preemption, "preemption-policy", "PreemptLowerPriority", "PreemptLowerPriority, or Never to wait for room")
	}, func(context.Context, string) (map[string]any, error) {
		o := object("scheduling.k8s.io/v1", "PriorityClass")
		o["value"], o["preemptionPolicy"] = int64(value), preemption
		if global {
			o["globalDefault"] = true
		}
		if description != "" {
			o["description"] = description
		}
		return o, nil
	})
	c.Aliases = []string{"pc"}
	return c
}

func (s *session) createIngress() *cobra.Command {
	var class, backend string
	var rules, annotations []string
	c := s.builder("ingress", "Create an ingress", func(c *cobra.Command) {
		c.Flags().StringVar(&class, "class", "", "`name` of the ingress class")
		c.Flags().StringArrayVar(&rules, "rule", nil, "`HOST/PATH=SERVICE:PORT[,tls[=SECRET]]`; a path that ends in * is a prefix")
		c.Flags().StringVar(&backend, "default-backend", "", "`SERVICE:PORT` of what no rule matches")
		c.Flags().StringArrayVar(&annotations, "annotation", nil, "`KEY=VALUE` to annotate it with")
	}, func(context.Context, string) (map[string]any, error) {
		if len(rules) == 0 && backend == "" {
			return nil, errors.New("not enough information provided: every ingress has to either specify a default-backend (which catches all traffic) or a list of rules (which catch specific paths)")
		}
		spec, err := ingressSpec(rules, backend)
		if err != nil {
			return nil, err
		}
		if class != "" {
			spec["ingressClassName"] = class
		}
		notes := map[string]any{}
		for _, a := range annotations {
			k, v, ok := strings.Cut(a, "=")
			if !ok || k == "" {
				return nil, fmt.Errorf("--annotation: %q is not KEY=VALUE", a)
			}
			notes[k] = v
		}
		o := object("networking.k8s.io/v1", "Ingress")
		if len(notes) > 0 {
			o["metadata"] = map[string]any{"annotations": notes}
		}
		o["spec"] = spec
		return o, nil
	})
	c.Aliases = []string{"ing"}
	return c
}

// ingressSpec puts the paths of each host, and the hosts of each certificate, together, in the order in which they come.
func ingressSpec(rules []string, backend string) (map[string]any, error) {
	spec := map[string]any{}
	if backend != "" {
		b, err := ingressBackend(backend)
		if err != nil {
			return nil, fmt.Errorf("--default-backend: %w", err)
		}
		spec["defaultBackend"] = b
	}
	paths, certs := newGroups(), newGroups()
	for _, rule := range rules {
		where, to, ok := strings.Cut(rule, "=")
		host, path, slash := strings.Cut(where, "/")
		if !ok || !slash {
			return nil, fmt.Errorf("--rule: %q is not HOST/PATH=SERVICE:PORT[,tls[=SECRET]]", rule)
		}
		to, option, secure := strings.Cut(to, ",")
		b, err := ingressBackend(to)
		if err != nil {
			return nil, fmt.Errorf("--rule: %q: %w", rule, err)
		}
		kind := "Exact"
		if trimmed, prefix := strings.CutSuffix(path, "*"); prefix {
			path, kind = trimmed, "Prefix"
		}
		paths.add(host, map[string]any{"path": "/" + path, "pathType": kind, "backend": b})
		if secure {
			word, secret, _ := strings.Cut(option, "=")
			if word != "tls" {
				return nil, fmt.Errorf("--rule: %q: %q is not tls[=SECRET]", rule, option)
			}
			if host != "" || secret != "" {
				certs.add(secret, host)
			}
		}
	}
	var list, secured []any
	for _, host := range paths.order {
		r := map[string]any{"http": map[string]any{"paths": paths.of[host]}}
		if host != "" {
			r["host"] = host
		}
		list = append(list, r)
	}
	for _, secret := range certs.order {
		t := map[string]any{}
		if hosts := slices.DeleteFunc(certs.of[secret], func(h any) bool { return h == "" }); len(hosts) > 0 {
			t["hosts"] = hosts
		}
		if secret != "" {
			t["secretName"] = secret
		}
		secured = append(secured, t)
	}
	if len(list) > 0 {
		spec["rules"] = list
	}
	if len(secured) > 0 {
		spec["tls"] = secured
	}
	return spec, nil
}

// groups keeps values by a key, and the keys in the order in which they came.
type groups struct {
	order []string
	of    map[string][]any
}

func newGroups() *groups { return &groups{of: map[string][]any{}} }

func (g *groups) add(key string, value any) {
	if g.of[key] == nil {
		g.order = append(g.order, key)
	}
	g.of[key] = append(g.of[key], value)
}

func ingressBackend(text string) (map[string]any, error) {
	name, port, ok := strings.Cut(text, ":")
	if !ok || name == "" || port == "" {
		return nil, fmt.Errorf("%q is not SERVICE:PORT", text)
	}
	at := map[string]any{"name": port}
	if n, isNumber := numberOrText(port).(int64); isNumber {
		at = map[string]any{"number": n}
	}
	return map[string]any{"service": map[string]any{"name": name, "port": at}}, nil
}

func (s *session) createTLSSecret() *cobra.Command {
	var cert, key string
	return s.builder("tls", "Create a secret of a certificate and its key", func(c *cobra.Command) {
		c.Flags().StringVar(&cert, "cert", "", "`file` of the certificate in PEM")
		c.Flags().StringVar(&key, "key", "", "`file` of the key in PEM")
		_ = c.MarkFlagRequired("cert")
		_ = c.MarkFlagRequired("key")
	}, func(context.Context, string) (map[string]any, error) {
		certPEM, certErr := os.ReadFile(cert)
		keyPEM, keyErr := os.ReadFile(key)
		if err := errors.Join(certErr, keyErr); err != nil {
			return nil, err
		}
		if _, err := tls.X509KeyPair(certPEM, keyPEM); err != nil {
			return nil, err
		}
		return secretObject("kubernetes.io/tls", map[string][]byte{"tls.crt": certPEM, "tls.key": keyPEM}), nil
	})
}

func (s *session) createRegistrySecret() *cobra.Command {
	var server, user, password, email string
	var files []string
	return s.builder("docker-registry", "Create a secret that images are pulled with", func(c *cobra.Command) {
		c.Flags().StringVar(&server, "docker-server", "https://index.docker.io/v1/", "the registry's `address`")
		c.Flags().StringVar(&user, "docker-username", "", "`name` to log in with")
		c.Flags().StringVar(&password, "docker-password", "", "`password` to log in with")
		c.Flags().StringVar(&email, "docker-email", "", "`address` for the registry; seldom asked for")
		c.Flags().StringSliceVar(&files, "from-file", nil, "a docker configuration `file` instead: .dockerconfigjson=FILE or FILE")
	}, func(context.Context, string) (map[string]any, error) {
		const kind = "kubernetes.io/dockerconfigjson"
		if len(files) > 0 {
			_, path, ok := strings.Cut(files[0], "=")
			if !ok {
				path = files[0]
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return nil, fmt.Errorf("--from-file: %w", err)
			}
			return secretObject(kind, map[string][]byte{".dockerconfigjson": data}), nil
		}
		if user == "" || password == "" || server == "" {
			return nil, errors.New("either --from-file or the combination of --docker-username, --docker-password and --docker-server is required")
		}
		type login struct {
			Username string `json:"username"`
			Password string `json:"password"`
			Email    string `json:"email,omitempty"`
			Auth     string `json:"auth"`
		}
		auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
		data, err := json.Marshal(map[string]any{"auths": map[string]login{server: {user, password, email, auth}}})
		if err != nil {
			return nil, err
		}
		return secretObject(kind, map[string][]byte{".dockerconfigjson": data}), nil
	})
}

func secretObject(kind string, data map[string][]byte) map[string]any {
	o, encoded := object("v1", "Secret"), map[string]any{}
	for k, v := range data {
		encoded[k] = base64.StdEncoding.EncodeToString(v)
	}
	o["data"] = encoded
	if kind != "" {
		o["type"] = kind
	}
	return o
}
