package servicecidr

import (
	"context"
	"errors"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/watchcache"
)

const (
	// repairEvery is how often the IPAddresses are compared with the Services, as often as Kubernetes does. Writes keep them
	// equal; what differs was changed by hand or is from before an upgrade.
	repairEvery = 3 * time.Minute
	// retryEvery is the pause after a failure.
	retryEvery = time.Second
)

const (
	cidrs     = "servicecidrs"
	addresses = "ipaddresses"
)

// Config is what a Keeper is made of.
type Config struct {
	Pipeline *pipeline.Pipeline
	Now      func() time.Time
	Log      *slog.Logger
}

// Keeper carries out what Decide, Missing and Orphans say.
type Keeper struct{ cfg Config }

// New returns a Keeper. Nothing runs yet.
func New(cfg Config) *Keeper { return &Keeper{cfg} }

// Run follows the ServiceCIDRs until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		k.follow(ctx, changed)
	}()
	defer func() { <-followed }()
	repair := time.NewTimer(0)
	defer repair.Stop()
	again := time.NewTimer(repairEvery)
	defer again.Stop()
	for {
		var err error
		wait := repairEvery
		select {
		case <-ctx.Done():
			return nil
		case <-repair.C:
			err = k.Repair(ctx)
			repair.Reset(orRetry(err, repairEvery))
			k.warn(ctx, "comparing the IPAddresses with the Services failed", err)
			continue
		case <-changed:
		case <-again.C:
		}
		if wait, err = k.Once(ctx); wait == 0 {
			wait = repairEvery
		}
		again.Reset(orRetry(err, wait))
		k.warn(ctx, "keeping the ServiceCIDRs failed", err)
	}
}

func orRetry(err error, otherwise time.Duration) time.Duration {
	if err != nil {
		return retryEvery
	}
	return otherwise
}

func (k *Keeper) warn(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil {
		k.cfg.Log.Warn(what, "error", err)
	}
}

// follow says that ServiceCIDRs have changed.
func (k *Keeper) follow(ctx context.Context, changed chan<- struct{}) {
	for ctx.Err() == nil {
		err := k.cfg.Pipeline.Notice(ctx, ref(cidrs, ""), changed)
		if ctx.Err() != nil || apierrors.IsResourceExpired(err) || errors.Is(err, watchcache.ErrExpired) {
			continue
		}
		k.warn(ctx, "following the ServiceCIDRs failed", err)
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
		}
	}
}

// Once does what is to be done for the ServiceCIDRs, and returns when to look again; 0 means when one of them changes.
func (k *Keeper) Once(ctx context.Context) (time.Duration, error) {
	var s Snapshot
	var err error
	if s.CIDRs, err = list[*networkingv1.ServiceCIDR](ctx, k.cfg.Pipeline, networkingv1.GroupName, cidrs); err != nil {
		return 0, err
	}
	for _, c := range s.CIDRs {
		if c.DeletionTimestamp == nil {
			continue
		}
		if s.Addresses, err = list[*networkingv1.IPAddress](ctx, k.cfg.Pipeline, networkingv1.GroupName, addresses); err != nil {
			return 0, err
		}
		break
	}
	p := Decide(s, k.cfg.Now())
	for _, c := range p.Objects {
		if err := k.write(ctx, pipeline.Update, cidrs, "", c); err != nil {
			return 0, err
		}
	}
	for _, c := range p.Statuses {
		if err := k.write(ctx, pipeline.Update, cidrs, "status", c); err != nil {
			return 0, err
		}
	}
	return p.Again, nil
}

// Repair makes the IPAddresses agree with the Services. The two are written in one commit but read one after the other, so
// that each difference is looked at again in the Service as it is then: a Service that held an address before the IPAddresses
// were read, and holds it still, should have had one; one that does not hold it now is not what the IPAddress, which was there
// before, is for.
func (k *Keeper) Repair(ctx context.Context) error {
	services, err := list[*corev1.Service](ctx, k.cfg.Pipeline, "", "services")
	if err != nil {
		return err
	}
	have, err := list[*networkingv1.IPAddress](ctx, k.cfg.Pipeline, networkingv1.GroupName, addresses)
	if err != nil {
		return err
	}
	for _, a := range Missing(services, have) {
		held, err := k.held(ctx, a)
		if err != nil {
			return err
		}
		if !held {
			continue
		}
		if err := k.write(ctx, pipeline.Create, addresses, "", a); err != nil {
			return err
		}
	}
	for _, a := range Orphans(services, have) {
		held, err := k.held(ctx, a)
		if err != nil {
			return err
		}
		if held {
			continue
		}
		r := &pipeline.Request{Verb: pipeline.Delete, Caller: pipeline.System(), Ref: ref(addresses, a.Name)}
		r.Delete.Preconditions = &metav1.Preconditions{UID: &a.UID}
		if _, err := k.cfg.Pipeline.Do(ctx, r); overtaken(err) != nil {
			return err
		}
	}
	return nil
}

// held reports whether the Service that an IPAddress is for holds the address now.
func (k *Keeper) held(ctx context.Context, a *networkingv1.IPAddress) (bool, error) {
	p := a.Spec.ParentRef
	obj, found, err := k.cfg.Pipeline.Object(ctx, "", "services", p.Namespace, p.Name, true)
	if err != nil || !found {
		return false, err
	}
	return holds(obj.(*corev1.Service).Spec.ClusterIPs, a), nil
}

// write writes an object, or leaves it be if somebody else was faster: whatever is then still to be done is seen by the next look.
func (k *Keeper) write(ctx context.Context, verb pipeline.Verb, plural, subresource string, obj registry.Object) error {
	raw, err := obj.Marshal()
	if err != nil {
		return err
	}
	r := &pipeline.Request{Verb: verb, Caller: pipeline.System(), Ref: ref(plural, obj.GetName())}
	r.Subresource = subresource
	res, ok := k.cfg.Pipeline.Set().Lookup(r.Group, "", plural)
	if !ok {
		return errors.New("not served")
	}
	r.Body = pipeline.Body{ContentType: pipeline.Raw, Kind: res.Kind, Data: raw}
	_, err = k.cfg.Pipeline.Do(ctx, r)
	return overtaken(err)
}

func overtaken(err error) error {
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func ref(plural, name string) pipeline.Ref {
	return pipeline.Ref{Group: networkingv1.GroupName, Version: "v1", Resource: plural, Name: name}
}

// list reads all objects of a kind, quorum-fresh.
func list[T registry.Object](ctx context.Context, p *pipeline.Pipeline, group, plural string) ([]T, error) {
	objects, err := p.Fresh(ctx, group, plural, "")
	if err != nil {
		return nil, err
	}
	out := make([]T, 0, len(objects))
	for _, o := range objects {
		if v, ok := o.(T); ok {
			out = append(out, v)
		}
	}
	return out, nil
}
