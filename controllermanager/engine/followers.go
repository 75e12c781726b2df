package engine

import (
	"context"
	"slices"
	"sync"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/plan"
)

// Followers watch the metadata of a set of kinds that changes while they run: custom kinds come and go. They belong to one
// goroutine.
type Followers struct {
	client  *client.Client
	watches map[plan.Kind]context.CancelFunc
	running sync.WaitGroup
}

// NewFollowers returns followers of no kinds.
func NewFollowers(c *client.Client) *Followers {
	return &Followers{client: c, watches: map[plan.Kind]context.CancelFunc{}}
}

// Follow makes kinds the ones that are watched: watches of others end, and new ones begin with the handler that there is for
// the kind.
func (f *Followers) Follow(ctx context.Context, kinds []plan.Kind, handler func(plan.Kind) MetaHandler) {
	for k, cancel := range f.watches {
		if !slices.Contains(kinds, k) {
			cancel()
			delete(f.watches, k)
		}
	}
	for _, k := range kinds {
		if f.watches[k] != nil {
			continue
		}
		watch, cancel := context.WithCancel(ctx)
		f.watches[k] = cancel
		f.running.Go(func() { FollowMeta(watch, f.client, k, handler(k)) })
	}
}

// Stop ends all watches and returns when they have.
func (f *Followers) Stop() {
	for _, cancel := range f.watches {
		cancel()
	}
	clear(f.watches)
	f.running.Wait()
}

// Definitions is the kind of custom kinds' definitions, whose metadata is all that controllers need: that they have changed.
func Definitions() plan.Kind {
	return plan.Kind{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions", Kind: "CustomResourceDefinition"}
}

// OnDefinitions calls changed whenever a custom kind may have come or gone, until ctx ends; at once if the server knows no
// custom kinds. changed must be quick.
func (s *Setup) OnDefinitions(ctx context.Context, changed func()) {
	if !s.Serves(Definitions()) {
		return
	}
	FollowMeta(ctx, s.Client(), Definitions(), MetaHandler{
		Snapshot: func([]*Meta) { changed() }, Changed: func(*Meta) { changed() }, Deleted: func(*Meta) { changed() },
	})
}
