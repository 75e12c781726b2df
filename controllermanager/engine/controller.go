package engine

import (
	"context"
	"log/slog"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/plan"
)

// Controller declares one controller. It is a value; nothing happens until an Engine runs it.
type Controller struct {
	// Name is upstream's name of the controller, "replicaset-controller"; --controllers selects by it.
	Name string
	// Reads are the kinds it mirrors or lists. It stays off on a server that does not serve all of them.
	Reads []plan.Kind
	// Optional are kinds it uses if the server serves them; see Setup.Serves.
	Optional []plan.Kind
	// Writes are the fields it changes in objects that exist. No two controllers may claim the same field.
	Writes []Claim
	// Creates and Deletes are the kinds of which it makes and removes objects.
	Creates, Deletes []plan.Kind
	// AnyKind frees the controllers whose subject is every kind there is (garbage collection, namespace deletion) from
	// listing the kinds they write.
	AnyKind bool
	// Setup asks for mirrors and starts loops. It runs once, before any mirror does.
	Setup func(*Setup) error
}

// Setup is what a controller builds itself with.
type Setup struct {
	engine     *Engine
	controller Controller
	// Log names the controller.
	Log *slog.Logger
}

// Client is for what mirrors cannot answer: quorum reads, lists of kinds known only at run time.
func (s *Setup) Client() *client.Client { return s.engine.opts.Client }

// Discover asks what the server serves now.
func (s *Setup) Discover(ctx context.Context) ([]Resource, error) { return s.engine.discover(ctx) }

// Serves reports whether the server serves a kind.
func (s *Setup) Serves(k plan.Kind) bool { return s.engine.served[k] }

// Go runs f beside the loops, once the mirrors are complete. f returns when ctx ends; an error ends the engine.
func (s *Setup) Go(f func(ctx context.Context) error) {
	s.engine.background = append(s.engine.background, f)
}

// Apply carries out a plan as the loops do. Most controllers return plans from a loop's step instead.
func (s *Setup) Apply(ctx context.Context, p plan.Plan) error {
	return s.engine.apply(ctx, s.controller, s.Log, p)
}
