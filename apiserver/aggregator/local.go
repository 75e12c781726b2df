package aggregator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/watchcache"
)

const (
	// managed marks the APIServices of what is served here, as Kubernetes' do, so that tools leave them alone.
	managed = "kube-aggregator.kubernetes.io/automanaged"
	// localRetry is the pause after a failure.
	localRetry      = 5 * time.Second
	priorityVersion = 100
)

// Priority is a group's, by which groups are listed: that which Kubernetes gives its own, and one that is less to all others.
func Priority(group string) int32 {
	switch group {
	case "", apiregistrationv1.GroupName:
		return 18000
	case "apps":
		return 17800
	case "events.k8s.io":
		return 17750
	case "authentication.k8s.io":
		return 17700
	case "authorization.k8s.io":
		return 17600
	case "autoscaling":
		return 17500
	case "batch":
		return 17400
	case "certificates.k8s.io":
		return 17300
	case "networking.k8s.io":
		return 17200
	case "policy":
		return 17100
	case "rbac.authorization.k8s.io":
		return 17000
	case "storage.k8s.io":
		return 16800
	case "admissionregistration.k8s.io", "apiextensions.k8s.io":
		return 16700
	case "scheduling.k8s.io":
		return 16600
	case "coordination.k8s.io":
		return 16500
	case "node.k8s.io":
		return 16300
	case "discovery.k8s.io", "resource.k8s.io":
		return 16200
	case "flowcontrol.apiserver.k8s.io":
		return 16100
	case "storagemigration.k8s.io":
		return 16000
	}
	return 1000
}

// registerLocal keeps an APIService for each group and version that is served here: now, and whenever a CustomResourceDefinition
// has changed.
func (a *Aggregator) registerLocal(ctx context.Context) {
	for ctx.Err() == nil {
		err := a.followDefinitions(ctx)
		if err == nil || ctx.Err() != nil {
			continue
		}
		if !errors.Is(err, watchcache.ErrExpired) {
			a.cfg.Log.Warn("keeping the APIServices of this server failed", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(localRetry):
		}
	}
}

func (a *Aggregator) followDefinitions(ctx context.Context) error {
	if _, err := a.cfg.Pipeline.WaitSet(ctx); err != nil {
		return err
	}
	s, err := a.cfg.Pipeline.Watch(ctx, &pipeline.Request{
		Verb: pipeline.Watch, Caller: pipeline.System(), SendInitialEvents: true,
		Ref: pipeline.Ref{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"},
	})
	if err != nil {
		return err
	}
	defer s.Cursor.Close()
	for initial := true; ; {
		batch, err := s.Cursor.Next(ctx)
		if err != nil {
			return err
		}
		if initial = initial && !batch.InitialEventsEnd; initial {
			continue
		}
		// What the definition has changed is served a moment later than it is seen here.
		if _, err := a.cfg.Pipeline.WaitSet(ctx); err != nil {
			return err
		}
		if err := a.Register(ctx); err != nil {
			return err
		}
	}
}

// localWriters is how many APIServices are made at once, so that they share the store's commits.
const localWriters = 16

// Register keeps an APIService for each group and version that is served here: it makes what is missing and removes what was made
// for a group that is gone. Run does so whenever that changes; a server that begins does so before it is ready.
func (a *Aggregator) Register(ctx context.Context) error {
	objects, err := a.cfg.Pipeline.Fresh(ctx, apiregistrationv1.GroupName, "apiservices", "")
	if err != nil {
		return err
	}
	have := map[string]*apiregistrationv1.APIService{}
	for _, obj := range objects {
		have[obj.GetName()] = obj.(*apiregistrationv1.APIService)
	}
	wanted := map[string]bool{}
	group, writing := errgroup.WithContext(ctx)
	group.SetLimit(localWriters)
	for _, res := range a.cfg.Pipeline.Set().All() {
		want := local(res.Kind.GroupVersion(), res.New)
		if wanted[want.Name] {
			continue
		}
		wanted[want.Name] = true
		if have[want.Name] != nil {
			continue
		}
		group.Go(func() error {
			if err := write(writing, a.cfg.Pipeline, pipeline.Create, "", want); err != nil && !apierrors.IsAlreadyExists(err) {
				return fmt.Errorf("creating APIService %s: %w", want.Name, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for name, s := range have {
		if s.Labels[managed] == "" || s.Spec.Service != nil || wanted[name] {
			continue
		}
		r := request(pipeline.Delete, name)
		r.Delete.Preconditions = metav1.NewUIDPreconditions(string(s.UID))
		if _, err := a.cfg.Pipeline.Do(ctx, r); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("removing APIService %s: %w", name, err)
		}
	}
	return nil
}

// local is the APIService of a group and version that this server serves.
func local(gv schema.GroupVersion, newObject func() registry.Object) *apiregistrationv1.APIService {
	s := &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: gv.Version + "." + gv.Group, Labels: map[string]string{managed: "onstart"}},
		Spec:       apiregistrationv1.APIServiceSpec{Group: gv.Group, Version: gv.Version, GroupPriorityMinimum: Priority(gv.Group), VersionPriority: priorityVersion},
	}
	if custom(newObject()) {
		s.Labels[managed] = "true"
	}
	return s
}

// custom reports whether an object is of a kind that a CustomResourceDefinition defines.
func custom(obj registry.Object) bool {
	_, ok := obj.(interface{ UnstructuredContent() map[string]any })
	return ok
}

func request(verb pipeline.Verb, name string, sub ...string) *pipeline.Request {
	r := &pipeline.Request{
		Verb: verb, Caller: pipeline.System(),
		Ref: pipeline.Ref{Group: apiregistrationv1.GroupName, Version: "v1", Resource: "apiservices", Name: name},
	}
	if len(sub) > 0 {
		r.Subresource = sub[0]
	}
	return r
}

// write sends an APIService through the pipeline.
func write(ctx context.Context, p *pipeline.Pipeline, verb pipeline.Verb, sub string, obj *apiregistrationv1.APIService) error {
	raw, err := obj.Marshal()
	if err != nil {
		return err
	}
	r := request(verb, obj.Name, slices.Compact([]string{sub})...)
	r.Body = pipeline.Body{ContentType: pipeline.Raw, Kind: apiregistrationv1.SchemeGroupVersion.WithKind("APIService"), Data: raw}
	_, err = p.Do(ctx, r)
	return err
}
