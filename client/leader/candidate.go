package leader

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
)

// releaseTimeout bounds giving the lease up at the end; after it the next leader waits for the lease to expire.
const releaseTimeout = 500 * time.Millisecond

// candidate takes part in one election.
type candidate struct {
	cfg    Config
	leases *client.Resource[*coordinationv1.Lease]

	// lease is the newest state seen, and seen when by the monotonic clock it was first seen in this state.
	lease *coordinationv1.Lease
	seen  time.Time
	told  string
}

func newCandidate(c *client.Client, cfg Config) *candidate {
	return &candidate{cfg: cfg, leases: client.Of(c, client.Leases())}
}

func (c *candidate) run(ctx context.Context) error {
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer wg.Wait()
	defer cancel()
	changed := make(chan *coordinationv1.Lease)
	wg.Go(func() { c.watch(ctx, changed) })
	for {
		acquired, err := c.acquire(ctx, changed)
		if err != nil {
			return nil // only ctx ends the wait
		}
		if finished := c.lead(ctx, acquired, changed); finished {
			return nil
		}
		c.cfg.Log.Warn("leadership lost", "lease", c.cfg.Name)
	}
}

// watch passes on every state of the lease, so that a release is acted on at once. What it misses the retries find.
func (c *candidate) watch(ctx context.Context, changed chan<- *coordinationv1.Lease) {
	opts := client.WatchOptions{FieldSelector: "metadata.name=" + c.cfg.Name}
	for ctx.Err() == nil {
		for ev, err := range c.leases.Watch(ctx, c.cfg.Namespace, opts) {
			if err != nil || ev.Object == nil {
				continue
			}
			lease := ev.Object
			if ev.Type == client.Deleted {
				lease = nil
			}
			select {
			case changed <- lease:
			case <-ctx.Done():
				return
			}
		}
		pause(ctx, c.cfg.RetryPeriod)
	}
}

// acquire waits until this candidate holds the lease and returns when the request that took it was sent.
func (c *candidate) acquire(ctx context.Context, changed <-chan *coordinationv1.Lease) (time.Time, error) {
	failed := client.Backoff{Most: c.cfg.RetryPeriod}
	for {
		sent := time.Now()
		err := c.tryAcquire(ctx)
		if err == nil {
			c.tell(c.cfg.Identity)
			return sent, nil
		}
		if ctx.Err() != nil {
			return time.Time{}, ctx.Err()
		}
		wait := c.untilRetry()
		if errors.Is(err, errHeld) {
			failed.Reset()
		} else {
			c.cfg.Log.Warn("leader election attempt failed", "lease", c.cfg.Name, "error", err)
			wait = min(wait, failed.Next())
		}
		timer := time.NewTimer(wait)
		select {
		case lease := <-changed:
			c.observe(lease)
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// untilRetry is how long nothing need be done: until the lease as seen expires, at most RetryPeriod.
func (c *candidate) untilRetry() time.Duration {
	wait := c.cfg.RetryPeriod
	if c.lease != nil && holder(c.lease) != "" {
		if left := time.Until(c.seen.Add(duration(c.lease))); left > 0 && left < wait {
			wait = left
		}
	}
	return wait
}

var errHeld = errors.New("lease is held by another")

// tryAcquire takes the lease if it is free, expired or this candidate's own.
func (c *candidate) tryAcquire(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RenewDeadline)
	defer cancel()
	lease, err := c.leases.Get(ctx, c.cfg.Namespace, c.cfg.Name)
	if apierrors.IsNotFound(err) {
		return c.write(ctx, c.leases.Create, c.claim(nil))
	}
	if err != nil {
		return err
	}
	c.observe(lease)
	if h := holder(lease); h != "" && h != c.cfg.Identity && time.Since(c.seen) < duration(lease) {
		return errHeld
	}
	return c.write(ctx, c.leases.Update, c.claim(lease))
}

func (c *candidate) write(ctx context.Context, do func(context.Context, *coordinationv1.Lease, ...client.WriteOption) (*coordinationv1.Lease, error), lease *coordinationv1.Lease) error {
	stored, err := do(ctx, lease)
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("%w: %w", errHeld, err)
	}
	if err == nil {
		c.observe(stored)
	}
	return err
}

// claim returns the lease as held by this candidate from now on; old is the lease as stored, nil if there is none.
func (c *candidate) claim(old *coordinationv1.Lease) *coordinationv1.Lease {
	now := metav1.NewMicroTime(time.Now())
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: c.cfg.Namespace, Name: c.cfg.Name}}
	var transitions int32
	if old != nil {
		lease = old.DeepCopy()
		if old.Spec.LeaseTransitions != nil {
			transitions = *old.Spec.LeaseTransitions
		}
	}
	if old == nil || holder(old) != c.cfg.Identity {
		lease.Spec.AcquireTime = &now
		if old != nil {
			transitions++
		}
	}
	seconds := int32((c.cfg.LeaseDuration + time.Second - 1) / time.Second)
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds = &c.cfg.Identity, &seconds
	lease.Spec.LeaseTransitions, lease.Spec.RenewTime = &transitions, &now
	return lease
}

// observe notes a state of the lease; a state not seen before starts the wait for its expiry anew.
func (c *candidate) observe(lease *coordinationv1.Lease) {
	if lease == nil {
		c.lease = nil
		return
	}
	if c.lease != nil && client.RevisionOf(lease) <= client.RevisionOf(c.lease) && lease.UID == c.lease.UID {
		return
	}
	c.lease, c.seen = lease, time.Now()
	c.tell(holder(lease))
}

func (c *candidate) tell(identity string) {
	if identity == "" || identity == c.told {
		return
	}
	c.told = identity
	if c.cfg.OnNewLeader != nil {
		c.cfg.OnNewLeader(identity)
	}
}

// lead runs OnStarted and renews until leadership is lost (false) or the work or ctx ended (true). renewed is when the
// request that took the lease was sent: others count the lease's duration from no earlier than that.
func (c *candidate) lead(ctx context.Context, renewed time.Time, changed <-chan *coordinationv1.Lease) (finished bool) {
	c.cfg.Log.Info("leading", "lease", c.cfg.Name, "identity", c.cfg.Identity)
	work, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.cfg.OnStarted(work)
	}()
	lost := c.renewUntil(work, renewed, changed, done)
	stop()
	<-done
	if lost && ctx.Err() == nil {
		return false
	}
	c.release(context.WithoutCancel(ctx))
	return true
}

// renewUntil renews the lease until ctx or the work ends (false) or leadership is lost (true).
func (c *candidate) renewUntil(ctx context.Context, renewed time.Time, changed <-chan *coordinationv1.Lease, done <-chan struct{}) (lost bool) {
	deadline := time.NewTimer(time.Until(renewed.Add(c.cfg.RenewDeadline)))
	defer deadline.Stop()
	tick := time.NewTicker(c.cfg.RetryPeriod)
	defer tick.Stop()
	results := make(chan renewal, 1)
	pending := false
	ctx, cancel := context.WithCancel(ctx)
	defer func() { // end a renewal under way, so that no goroutine outlives the election
		cancel()
		if pending {
			<-results
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-done:
			return false
		case <-deadline.C:
			return true
		case <-tick.C:
			if !pending {
				pending = true
				go c.renew(ctx, c.lease, results)
			}
		case r := <-results:
			pending = false
			if r.err == nil {
				c.observe(r.lease)
				deadline.Reset(time.Until(r.sent.Add(c.cfg.RenewDeadline)))
				continue
			}
			c.cfg.Log.Warn("lease renewal failed", "lease", c.cfg.Name, "error", r.err)
		case lease := <-changed:
			c.observe(lease)
			if c.lease == nil || holder(c.lease) != c.cfg.Identity {
				return true
			}
		}
	}
}

// renewal is the outcome of one renewal.
type renewal struct {
	sent  time.Time
	lease *coordinationv1.Lease
	err   error
}

// renew writes the lease once more; it gives up when the renewal would come too late.
func (c *candidate) renew(ctx context.Context, held *coordinationv1.Lease, results chan<- renewal) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RenewDeadline)
	defer cancel()
	r := renewal{sent: time.Now()}
	r.lease, r.err = c.leases.Update(ctx, c.claim(held))
	if apierrors.IsConflict(r.err) {
		if current, err := c.leases.Get(ctx, c.cfg.Namespace, c.cfg.Name); err == nil && holder(current) == c.cfg.Identity {
			r.sent = time.Now()
			r.lease, r.err = c.leases.Update(ctx, c.claim(current))
		}
	}
	results <- r
}

// release gives the lease up as Kubernetes' leader election does: no holder and a duration of one second.
func (c *candidate) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	lease, err := c.leases.Get(ctx, c.cfg.Namespace, c.cfg.Name)
	if err != nil || holder(lease) != c.cfg.Identity {
		return
	}
	none, second, now := "", int32(1), metav1.NewMicroTime(time.Now())
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds = &none, &second
	lease.Spec.RenewTime, lease.Spec.AcquireTime = &now, &now
	if _, err := c.leases.Update(ctx, lease); err != nil {
		c.cfg.Log.Warn("lease not released", "lease", c.cfg.Name, "error", err)
		return
	}
	c.cfg.Log.Info("lease released", "lease", c.cfg.Name)
}

func holder(lease *coordinationv1.Lease) string {
	if lease == nil || lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

func duration(lease *coordinationv1.Lease) time.Duration {
	if lease.Spec.LeaseDurationSeconds == nil {
		return 0
	}
	return time.Duration(*lease.Spec.LeaseDurationSeconds) * time.Second
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
