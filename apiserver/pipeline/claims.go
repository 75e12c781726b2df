package pipeline

import (
	"context"
	"errors"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/storage"
)

// claimPrefix is where claimed names are kept, each with the key of its holder as value.
const claimPrefix = "/registry/bareboat/claims/"

func (h *handle) claims(obj registry.Object) []registry.Claim {
	if obj == nil || h.res.Strategy.Claims == nil {
		return nil
	}
	return h.res.Strategy.Claims(obj)
}

// claimOps takes the names that only the new object holds and drops those that only the old one held. Either may be nil.
func (p *Pipeline) claimOps(h *handle, key string, obj, old registry.Object) ([]storage.Op, error) {
	if h.res.Strategy.Claims == nil {
		return nil, nil
	}
	var ops []storage.Op
	had, has := map[string]bool{}, map[string]bool{}
	before := h.claims(old)
	for _, c := range before {
		had[c.Key] = true
	}
	for _, c := range h.claims(obj) {
		if !had[c.Key] && !has[c.Key] {
			ops = append(ops, storage.Op{Type: storage.Put, Key: claimPrefix + c.Key, Value: []byte(key), If: storage.Absent})
			shown, err := p.showClaim(c)
			if err != nil {
				return nil, err
			}
			ops = append(ops, shown...)
		}
		has[c.Key] = true
	}
	for _, c := range before {
		if !has[c.Key] {
			has[c.Key] = true
			ops = append(ops, storage.Op{Type: storage.Delete, Key: claimPrefix + c.Key, If: storage.None})
			if shown := p.shownKey(c); shown != "" {
				ops = append(ops, storage.Op{Type: storage.Delete, Key: shown, If: storage.None})
			}
		}
	}
	return ops, nil
}

// showClaim writes the object by which a claim can be seen, if it has one and the server serves its kind.
func (p *Pipeline) showClaim(c registry.Claim) ([]storage.Op, error) {
	key := p.shownKey(c)
	if key == "" {
		return nil, nil
	}
	shown := c.Shown()
	h, err := p.handleFor(shown.Group, shown.Plural)
	if err != nil {
		return nil, err
	}
	shown.Object.SetUID(types.UID(p.newUID()))
	shown.Object.SetCreationTimestamp(p.timestamp())
	if h.res.Strategy.SpecChanged != nil {
		shown.Object.SetGeneration(1)
	}
	value, err := p.encodeStored(h, shown.Object)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return []storage.Op{{Type: storage.Put, Key: key, Value: value, If: storage.Absent}}, nil
}

// shownKey is where the object that shows a claim is stored; empty for none.
func (p *Pipeline) shownKey(c registry.Claim) string {
	if c.Shown == nil {
		return ""
	}
	shown := c.Shown()
	h, err := p.handleFor(shown.Group, shown.Plural)
	if err != nil {
		return ""
	}
	return h.res.Key("", shown.Object.GetName())
}

// claimError turns a conflict over a claim into a *takenError.
func (p *Pipeline) claimError(h *handle, obj registry.Object, err error) error {
	var conflict *storage.ConflictError
	if !errors.As(err, &conflict) {
		return err
	}
	for _, c := range h.claims(obj) {
		if conflict.Key == claimPrefix+c.Key || conflict.Key == p.shownKey(c) {
			return &takenError{claim: c}
		}
	}
	return err
}

// takenError means that somebody else holds a claimed name.
type takenError struct{ claim registry.Claim }

func (e *takenError) Error() string { return e.claim.Key + " is taken" }

func (e *takenError) field() *field.Error {
	return field.Invalid(e.claim.Field, e.claim.Value, e.claim.Detail)
}

// picker implements registry.Picker for one decision. It looks the held names of a family up once something asks.
type picker struct {
	p        *Pipeline
	ctx      context.Context
	families map[string]map[string]bool
	// lost are names that proved to be taken in earlier attempts.
	lost map[string]bool
	err  error
}

func (p *Pipeline) picker(ctx context.Context, lost map[string]bool) *picker {
	return &picker{p: p, ctx: ctx, families: map[string]map[string]bool{}, lost: lost}
}

// Objects implements registry.Picker.
func (k *picker) Objects(group, plural string) []registry.Object {
	if _, err := k.p.handleFor(group, plural); err != nil {
		return nil
	}
	list, err := k.p.Objects(k.ctx, group, plural, "")
	if err != nil {
		k.err = err
	}
	return list
}

// Intn implements registry.Picker.
func (k *picker) Intn(n int) int { return k.p.cfg.Rand(n) }

// Taken implements registry.Picker.
func (k *picker) Taken(key string) bool {
	if k.lost[key] {
		return true
	}
	family, _, _ := strings.Cut(key, "/")
	held, ok := k.families[family]
	if !ok {
		held = map[string]bool{}
		prefix := claimPrefix + family + "/"
		list, err := k.p.cfg.Engine.List(k.ctx, prefix, storage.ListOptions{})
		if err != nil {
			k.err = err
		}
		for _, e := range list.Entries {
			held[strings.TrimPrefix(e.Key, claimPrefix)] = true
		}
		k.families[family] = held
	}
	return held[key]
}
