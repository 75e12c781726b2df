package server

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/server/flow"
	"bareboat.dev/apiserver/watchcache"
)

// flows follows the FlowSchemas and priority levels, after making those that every cluster has.
type flows struct{ table atomic.Pointer[flow.Table] }

// Classify implements rest.Flows. Until the objects have been read nothing is classified.
func (f *flows) Classify(r *flow.Request) (schema, level types.UID, ok bool) {
	t := f.table.Load()
	if t == nil {
		return "", "", false
	}
	return t.Classify(r)
}

// flowRetry is the pause after a failure.
const flowRetry = 5 * time.Second

// run follows the objects until ctx ends.
func (f *flows) run(ctx context.Context, s *Server) error {
	for ctx.Err() == nil {
		err := f.follow(ctx, s.pipeline, s.cfg.Now)
		if ctx.Err() != nil {
			break
		}
		if !errors.Is(err, watchcache.ErrExpired) {
			s.cfg.Log.Warn("following the FlowSchemas failed", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(flowRetry):
		}
	}
	return nil
}

// flowResources are the resources that a table is made of.
func flowResources() []string { return []string{"flowschemas", "prioritylevelconfigurations"} }

func (f *flows) follow(ctx context.Context, p *pipeline.Pipeline, now func() time.Time) error {
	if err := makeFlows(ctx, p); err != nil {
		return err
	}
	changed := make(chan struct{}, 1)
	group, ctx := errgroup.WithContext(ctx)
	for _, plural := range flowResources() {
		group.Go(func() error {
			return p.Notice(ctx, pipeline.Ref{Group: flowcontrolv1.GroupName, Version: "v1", Resource: plural}, changed)
		})
	}
	group.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
				if err := f.read(ctx, p, now); err != nil {
					return err
				}
			}
		}
	})
	return group.Wait()
}

// read makes the table anew, and tells in each schema whether its level exists; it is a dozen objects.
func (f *flows) read(ctx context.Context, p *pipeline.Pipeline, now func() time.Time) error {
	schemas, err := p.Fresh(ctx, flowcontrolv1.GroupName, "flowschemas", "")
	if err != nil {
		return err
	}
	levels, err := p.Fresh(ctx, flowcontrolv1.GroupName, "prioritylevelconfigurations", "")
	if err != nil {
		return err
	}
	var s []*flowcontrolv1.FlowSchema
	for _, obj := range schemas {
		s = append(s, obj.(*flowcontrolv1.FlowSchema))
	}
	var l []*flowcontrolv1.PriorityLevelConfiguration
	for _, obj := range levels {
		l = append(l, obj.(*flowcontrolv1.PriorityLevelConfiguration))
	}
	f.table.Store(flow.NewTable(s, l))
	group, ctx := errgroup.WithContext(ctx)
	for _, schema := range s {
		if next, changed := flow.Dangling(schema, l, now()); changed {
			group.Go(func() error { return tellDangling(ctx, p, next) })
		}
	}
	return group.Wait()
}

func tellDangling(ctx context.Context, p *pipeline.Pipeline, s *flowcontrolv1.FlowSchema) error {
	raw, err := s.Marshal()
	if err != nil {
		return err
	}
	_, err = p.Do(ctx, &pipeline.Request{
		Verb: pipeline.Update, Caller: pipeline.System(),
		Ref:  pipeline.Ref{Group: flowcontrolv1.GroupName, Version: "v1", Resource: "flowschemas", Name: s.Name, Subresource: "status"},
		Body: pipeline.Body{ContentType: pipeline.Raw, Kind: flowcontrolv1.SchemeGroupVersion.WithKind("FlowSchema"), Data: raw},
	})
	if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) { // a change, which will be noticed
		return fmt.Errorf("status of FlowSchema %s: %w", s.Name, err)
	}
	return nil
}

// makeFlows makes the objects that every cluster has, where they are missing.
func makeFlows(ctx context.Context, p *pipeline.Pipeline) error {
	group, ctx := errgroup.WithContext(ctx) // together, so that they share the store's commits
	for _, l := range flow.Levels() {
		group.Go(func() error {
			return makeFlow(ctx, p, "PriorityLevelConfiguration", "prioritylevelconfigurations", l)
		})
	}
	for _, s := range flow.Schemas() {
		group.Go(func() error { return makeFlow(ctx, p, "FlowSchema", "flowschemas", s) })
	}
	return group.Wait()
}

func makeFlow(ctx context.Context, p *pipeline.Pipeline, kind, plural string, obj registry.Object) error {
	if _, ok, err := p.Object(ctx, flowcontrolv1.GroupName, plural, "", obj.GetName(), false); err != nil || ok {
		return err
	}
	raw, err := obj.Marshal()
	if err != nil {
		return err
	}
	_, err = p.Do(ctx, &pipeline.Request{
		Verb: pipeline.Create, Caller: pipeline.System(),
		Ref:  pipeline.Ref{Group: flowcontrolv1.GroupName, Version: "v1", Resource: plural},
		Body: pipeline.Body{ContentType: pipeline.Raw, Kind: flowcontrolv1.SchemeGroupVersion.WithKind(kind), Data: raw},
	})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating %s %s: %w", kind, obj.GetName(), err)
	}
	return nil
}
