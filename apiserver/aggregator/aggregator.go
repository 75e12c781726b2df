// Package aggregator serves API groups of other API servers: an APIService says that a group and version is behind a Service, and
// requests for it are passed on there, with the caller's identity in headers that the other server believes because of this
// server's client certificate (https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/).
//
//	a := aggregator.New(aggregator.Config{Pipeline: p, Network: network, …})
//	go a.Run(ctx)
//	if s, ok := a.Lookup("metrics.k8s.io", "v1beta1"); ok { s.ServeHTTP(w, r, caller, fail) }
//
// Each is asked now and then whether it is well; the answer is its condition Available, and what it serves is published with
// what is served here.
package aggregator

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	discoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/watchcache"
)

// Network reaches Services.
type Network interface {
	// Ready is nil if a Service's port has somebody behind it.
	Ready(ctx context.Context, namespace, name string, port int32) error
	// Dial connects to one of those who are behind a Service's port.
	Dial(ctx context.Context, namespace, name string, port int32) (net.Conn, error)
}

// Config is what an Aggregator is made of.
type Config struct {
	Pipeline *pipeline.Pipeline
	Network  Network
	// Certificate is how the other servers know this one, as it is when a connection is made; nil shows none, and then they take
	// every request to be anonymous.
	Certificate func() (*tls.Certificate, error)
	// Trust is published for the other servers; nil publishes nothing.
	Trust *Trust
	Now   func() time.Time
	Log   *slog.Logger
}

// Aggregator follows the APIServices.
type Aggregator struct {
	cfg Config

	mu       sync.RWMutex
	services map[schema.GroupVersion]*Service
	workers  sync.WaitGroup
}

// New returns an aggregator that knows no APIService yet.
func New(cfg Config) *Aggregator {
	return &Aggregator{cfg: cfg, services: map[schema.GroupVersion]*Service{}}
}

// Run follows the APIServices and asks each how it is, until ctx ends.
func (a *Aggregator) Run(ctx context.Context) error {
	defer a.workers.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.workers.Go(func() { a.publish(ctx) })
	a.workers.Go(func() { a.registerLocal(ctx) })
	for ctx.Err() == nil {
		err := follow(ctx, a.cfg.Pipeline, "apiservices", func(batch []change, whole bool) { a.apply(ctx, batch, whole) })
		if err != nil && ctx.Err() == nil && !errors.Is(err, watchcache.ErrExpired) {
			return fmt.Errorf("following APIServices: %w", err)
		}
	}
	return nil
}

// change is one APIService as it is now, or its end.
type change struct {
	object  *apiregistrationv1.APIService
	deleted bool
}

// follow watches APIServices from the beginning until the watch ends. The first call of apply has all of them.
func follow(ctx context.Context, p *pipeline.Pipeline, plural string, apply func(batch []change, whole bool)) error {
	s, err := p.Watch(ctx, &pipeline.Request{
		Verb: pipeline.Watch, Caller: pipeline.System(), SendInitialEvents: true,
		Ref: pipeline.Ref{Group: apiregistrationv1.GroupName, Version: "v1", Resource: plural},
	})
	if err != nil {
		return err
	}
	defer s.Cursor.Close()
	var changes []change
	initial := true
	for {
		batch, err := s.Cursor.Next(ctx)
		if err != nil {
			return err
		}
		for _, e := range batch.Events {
			obj, err := s.Object(e).Decoded()
			if err != nil {
				return err
			}
			changes = append(changes, change{object: obj.(*apiregistrationv1.APIService), deleted: e.Type == watchcache.Deleted})
		}
		switch {
		case batch.InitialEventsEnd:
			initial = false
			apply(changes, true)
			changes = nil
		case !initial && len(changes) > 0:
			apply(changes, false)
			changes = nil
		}
	}
}

// apply brings the services in line with the objects.
func (a *Aggregator) apply(ctx context.Context, batch []change, whole bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	seen := map[schema.GroupVersion]bool{}
	for _, c := range batch {
		gv := schema.GroupVersion{Group: c.object.Spec.Group, Version: c.object.Spec.Version}
		seen[gv] = true
		if c.deleted || c.object.Spec.Service == nil {
			a.dropLocked(gv)
			continue
		}
		if have, ok := a.services[gv]; ok && have.same(c.object) {
			continue
		}
		life, cancel := context.WithCancel(ctx)
		s := newService(a.cfg, c.object, cancel)
		if before, ok := a.services[gv]; ok {
			s.inherit(before)
		}
		a.dropLocked(gv)
		a.services[gv] = s
		a.workers.Go(func() { s.run(life) })
	}
	if !whole {
		return
	}
	for gv := range a.services {
		if !seen[gv] {
			a.dropLocked(gv)
		}
	}
}

func (a *Aggregator) dropLocked(gv schema.GroupVersion) {
	if s, ok := a.services[gv]; ok {
		s.end()
		delete(a.services, gv)
	}
}

// Lookup returns who serves a group and version, if it is another server. What this server serves itself it never gives away.
func (a *Aggregator) Lookup(group, version string) (*Service, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	s, ok := a.services[schema.GroupVersion{Group: group, Version: version}]
	if ok && slices.Contains(a.cfg.Pipeline.Set().Versions()[group], version) {
		return nil, false
	}
	return s, ok
}

// Serves reports whether another server serves a group and version, or any version if that is empty.
func (a *Aggregator) Serves(group, version string) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	for gv := range a.services {
		if gv.Group == group && (version == "" || gv.Version == version) {
			return true
		}
	}
	return false
}

// Groups are the groups of other servers, each with its versions, in the order of their priorities.
func (a *Aggregator) Groups() []discoveryv2.APIGroupDiscovery {
	a.mu.RLock()
	all := make([]*Service, 0, len(a.services))
	for _, s := range a.services {
		all = append(all, s)
	}
	a.mu.RUnlock()
	slices.SortFunc(all, compare)
	local := a.cfg.Pipeline.Set().Versions()
	var out []discoveryv2.APIGroupDiscovery
	for _, s := range all {
		if slices.Contains(local[s.spec.Group], s.spec.Version) {
			continue
		}
		i := slices.IndexFunc(out, func(g discoveryv2.APIGroupDiscovery) bool { return g.Name == s.spec.Group })
		if i < 0 {
			i = len(out)
			out = append(out, discoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: s.spec.Group}})
		}
		out[i].Versions = append(out[i].Versions, s.discovery())
	}
	return out
}

// compare orders by the group's priority, then its name, then the version's priority, then its name, newest first.
func compare(a, b *Service) int {
	if a.spec.Group != b.spec.Group {
		if a.spec.GroupPriorityMinimum != b.spec.GroupPriorityMinimum {
			return int(b.spec.GroupPriorityMinimum) - int(a.spec.GroupPriorityMinimum)
		}
		return strings.Compare(a.spec.Group, b.spec.Group)
	}
	if a.spec.VersionPriority != b.spec.VersionPriority {
		return int(b.spec.VersionPriority) - int(a.spec.VersionPriority)
	}
	return compareVersions(b.spec.Version, a.spec.Version)
}
