package aggregator

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	discoveryv2 "k8s.io/api/apidiscovery/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/pipeline"
	registryar "bareboat.dev/apiserver/registry/apiregistration"
)

const (
	// probeEvery is how often a server that is well is asked; one that is not is asked after a second, and then after twice as
	// long each time, up to this.
	probeEvery = 30 * time.Second
	probeFirst = time.Second
	// probeTimeout bounds one question, as Kubernetes' does.
	probeTimeout = 5 * time.Second
	// maxDiscovery bounds an answer: a thousand resources are 200 KiB.
	maxDiscovery = 4 << 20
)

// prober is who asks: a member of system:masters, as Kubernetes' aggregator is, so that the answer depends on no role.
func prober() *authn.Identity {
	return &authn.Identity{Name: "system:kube-aggregator", Groups: []string{authn.Masters}}
}

// run asks the other server how it is until ctx ends.
func (s *Service) run(ctx context.Context) {
	defer s.transport.CloseIdleConnections()
	next := probeFirst
	for {
		c := s.probe(ctx)
		if ctx.Err() != nil {
			return
		}
		if err := s.report(ctx, c); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("writing an APIService's status failed", "apiservice", s.name, "error", err)
		}
		pause := next
		next = min(2*next, probeEvery)
		if c.Status == apiregistrationv1.ConditionTrue {
			pause, next = probeEvery, probeFirst
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// probe asks once and keeps what it is told.
func (s *Service) probe(ctx context.Context) apiregistrationv1.APIServiceCondition {
	c := s.ask(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.available = c.Status == apiregistrationv1.ConditionTrue
	return c
}

// ask returns the condition, in Kubernetes' words.
func (s *Service) ask(ctx context.Context) apiregistrationv1.APIServiceCondition {
	no := func(reason, message string) apiregistrationv1.APIServiceCondition {
		return apiregistrationv1.APIServiceCondition{Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionFalse, Reason: reason, Message: message}
	}
	svc := s.spec.Service
	if s.broken != nil {
		return no("FailedDiscoveryCheck", s.broken.Error())
	}
	err := s.cfg.Network.Ready(ctx, svc.Namespace, svc.Name, s.port())
	switch {
	case apierrors.IsNotFound(err):
		return no("ServiceNotFound", fmt.Sprintf("service/%s in %q is not present", svc.Name, svc.Namespace))
	case err != nil && strings.HasPrefix(err.Error(), "no service port"):
		return no("ServicePortError", fmt.Sprintf("service/%s in %q is not listening on port %d", svc.Name, svc.Namespace, s.port()))
	case err != nil:
		return no("MissingEndpoints", fmt.Sprintf("endpoints for service/%s in %q have no addresses", svc.Name, svc.Namespace))
	}
	at := s.url("/apis/"+s.spec.Group+"/"+s.spec.Version, "")
	var list metav1.APIResourceList
	if err := s.get(ctx, at.Path, &list); err != nil {
		return no("FailedDiscoveryCheck", fmt.Sprintf("failing or missing response from %s: %v", at, err))
	}
	// The version 3 document is published if there is one; many servers have none.
	var index struct {
		Paths map[string]struct {
			URL string `json:"serverRelativeURL"`
		} `json:"paths"`
	}
	_ = s.get(ctx, "/openapi/v3", &index)
	s.mu.RLock()
	described := s.swagger
	s.mu.RUnlock()
	described = s.fetchSwagger(ctx, described)
	s.mu.Lock()
	s.known.Resources, s.swagger = resources(&list), described
	s.openapi = index.Paths["apis/"+s.spec.Group+"/"+s.spec.Version].URL
	s.mu.Unlock()
	return apiregistrationv1.APIServiceCondition{
		Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionTrue, Reason: "Passed", Message: "all checks passed",
	}
}

// get reads a JSON document of the other server.
func (s *Service) get(ctx context.Context, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url(path, "").String(), nil)
	if err != nil {
		return err
	}
	q.Header = identityHeaders(prober())
	q.Header.Set("Accept", "application/json")
	resp, err := s.transport.RoundTrip(q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("bad status from %s: %d", q.URL, resp.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxDiscovery))
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

// resources turns a list of resources and subresources into the form that holds the ones within the others.
func resources(list *metav1.APIResourceList) []discoveryv2.APIResourceDiscovery {
	var out []discoveryv2.APIResourceDiscovery
	for i := range list.APIResources {
		r := &list.APIResources[i]
		if strings.Contains(r.Name, "/") {
			continue
		}
		scope := discoveryv2.ScopeCluster
		if r.Namespaced {
			scope = discoveryv2.ScopeNamespace
		}
		d := discoveryv2.APIResourceDiscovery{
			Resource: r.Name, ResponseKind: kindOf(list, r), Scope: scope, SingularResource: r.SingularName,
			Verbs: r.Verbs, ShortNames: r.ShortNames, Categories: r.Categories,
		}
		for k := range list.APIResources {
			sub := &list.APIResources[k]
			if name, ok := strings.CutPrefix(sub.Name, r.Name+"/"); ok {
				d.Subresources = append(d.Subresources, discoveryv2.APISubresourceDiscovery{Subresource: name, ResponseKind: kindOf(list, sub), Verbs: sub.Verbs})
			}
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b discoveryv2.APIResourceDiscovery) int { return strings.Compare(a.Resource, b.Resource) })
	return out
}

func kindOf(list *metav1.APIResourceList, r *metav1.APIResource) *metav1.GroupVersionKind {
	group, version, _ := strings.Cut(list.GroupVersion, "/")
	if r.Group != "" {
		group = r.Group
	}
	if r.Version != "" {
		version = r.Version
	}
	return &metav1.GroupVersionKind{Group: group, Version: version, Kind: r.Kind}
}

// report writes the condition, if it is not what the object has.
func (s *Service) report(ctx context.Context, c apiregistrationv1.APIServiceCondition) error {
	obj, ok, err := s.cfg.Pipeline.Object(ctx, apiregistrationv1.GroupName, "apiservices", "", s.name, true)
	if err != nil || !ok {
		return err
	}
	have := obj.(*apiregistrationv1.APIService)
	if have.UID != s.uid {
		return nil // another one by now
	}
	old := registryar.Available(have)
	if old != nil && old.Status == c.Status && old.Reason == c.Reason && old.Message == c.Message {
		return nil
	}
	c.LastTransitionTime = metav1.NewTime(s.cfg.Now().Truncate(time.Second))
	if old != nil && old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
	}
	next := have.DeepCopy()
	if now := registryar.Available(next); now != nil {
		*now = c
	} else {
		next.Status.Conditions = append(next.Status.Conditions, c)
	}
	err = write(ctx, s.cfg.Pipeline, pipeline.Update, "status", next)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil // it has changed, and is looked at again
	}
	return err
}
