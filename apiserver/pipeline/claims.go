package pipeline

import (
	"context"
	"errors"
	"strings"

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
func (p *Pipeline) claimOps(h *handle, key string, obj, old registry.Object) []storage.Op {
	if h.res.Strategy.Claims == nil {
		return nil
	}
	var ops []storage.Op
	had, has := map[string]bool{}, map[string]bool{}
	for _, c := range h.claims(old) {
		had[c.Key] = true
	}
	for _, c := range h.claims(obj) {
		if !had[c.Key] && !has[c.Key] {
			ops = append(ops, storage.Op{Type: storage.Put, Key: claimPrefix + c.Key, Value: []byte(key), If: storage.Absent})
		}
		has[c.Key] = true
	}
	for k := range had {
		if !has[k] {
			ops = append(ops, storage.Op{Type: storage.Delete, Key: claimPrefix + k, If: storage.None})
		}
	}
	return ops
}

// claimError turns a conflict over a claim into a *takenError.
func (p *Pipeline) claimError(h *handle, obj registry.Object, err error) error {
	var conflict *storage.ConflictError
	if !errors.As(err, &conflict) {
		return err
	}
	key, ok := strings.CutPrefix(conflict.Key, claimPrefix)
	if !ok {
		return err
	}
	for _, c := range h.claims(obj) {
		if c.Key == key {
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
