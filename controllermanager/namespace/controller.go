package namespace

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
)

// workers is how many namespaces are emptied at a time.
const workers = 5

// Controller returns the controller's declaration.
func Controller() engine.Controller {
	return engine.Controller{
		Name:  "namespace-controller",
		Reads: []plan.Kind{plan.Namespaces, plan.Pods},
		Writes: []engine.Claim{
			{Kind: plan.Namespaces, Field: "status"},
			{Kind: plan.Namespaces, Field: "spec.finalizers[kubernetes]"},
		},
		AnyKind: true,
		Setup:   setup,
	}
}

type controller struct {
	client     *client.Client
	discover   func(context.Context) ([]engine.Resource, error)
	namespaces *engine.View[*corev1.Namespace]
}

func setup(s *engine.Setup) error {
	c := &controller{client: s.Client(), discover: s.Discover, namespaces: engine.Mirror(s, client.Namespaces())}
	loop := s.Loop(engine.LoopConfig{Name: "namespace", Workers: workers, Step: c.step})
	c.namespaces.OnChange(func(_, new *corev1.Namespace) {
		if new != nil && new.DeletionTimestamp != nil {
			loop.Add(new.Name)
		}
	})
	engine.Mirror(s, client.Pods()).OnChange(func(old, new *corev1.Pod) {
		if new != nil {
			return
		}
		if ns, ok := c.namespaces.Get("", old.Namespace); ok && ns.DeletionTimestamp != nil {
			loop.Add(ns.Name)
		}
	})
	return nil
}

func (c *controller) step(ctx context.Context, s engine.Step) (plan.Plan, error) {
	ns, ok := c.namespaces.Get("", s.Key)
	if !ok || ns.DeletionTimestamp == nil {
		return plan.Plan{}, nil
	}
	in := Input{Namespace: ns}
	if s.Last != nil && !engine.Expected(s.Last) {
		in.DeleteErr = s.Last
	}
	kinds, err := c.discover(ctx)
	if err != nil {
		in.DiscoveryErr = err
	} else {
		in.Contents = c.survey(ctx, ns.Name, kinds)
	}
	return Reconcile(in, s.Now), nil
}

// survey looks at everything in a namespace, in the order of the kinds' names, so that plans do not depend on the server's.
func (c *controller) survey(ctx context.Context, namespace string, resources []engine.Resource) []Content {
	var out []Content
	for _, k := range Deletable(resources) {
		objects, more, err := engine.ListMeta(ctx, c.client, k, namespace, PageSize)
		if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
			continue // The kind went away since it was discovered.
		}
		out = append(out, Content{Kind: k, Objects: objects, More: more, Err: err})
	}
	return out
}

// Deletable returns the namespaced kinds that can be listed and deleted, one version each.
func Deletable(resources []engine.Resource) []plan.Kind {
	return engine.Kinds(resources, func(r engine.Resource) bool { return r.Namespaced && r.Can("list", "delete") })
}
