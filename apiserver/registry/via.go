package registry

import (
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Via completes another version of a kind, which has Kind, New, NewList, Stored and its own Strategy.Default, from the resource
// that its objects are kept as: names, rules, columns and subresources are that resource's, applied to the converted object, as
// Kubernetes validates every version in one internal form. Errors therefore name the stored form's fields.
func Via(kept *Resource, r Resource) *Resource {
	r.Stored.Kind = kept.Kind
	r.Plural, r.Singular, r.ShortNames, r.Categories = kept.Plural, kept.Singular, kept.ShortNames, kept.Categories
	r.Namespaced, r.KeyPrefix = kept.Namespaced, kept.KeyPrefix
	v := &via{Stored: *r.Stored}
	r.Strategy = v.strategy(&kept.Strategy, r.Strategy.Default)
	for _, c := range kept.Columns {
		r.Columns = append(r.Columns, v.column(c))
	}
	fields := map[string]func(Object) string{}
	for name := range r.Stored.Fields {
		fields[name] = v.field(kept.Fields[r.Stored.Fields[name]])
	}
	r.Fields = fields
	for name, sub := range kept.Subresources {
		if r.Subresources == nil {
			r.Subresources = map[string]Subresource{}
		}
		r.Subresources[name] = v.subresource(sub)
	}
	return &r
}

// via applies rules for the stored form to objects of the other.
type via struct{ Stored }

func (v *via) strategy(s *Strategy, own func(Object)) Strategy {
	out := *s
	out.Default = own
	if s.PrepareCreate != nil {
		out.PrepareCreate = func(obj Object) { v.change(obj, s.PrepareCreate) }
	}
	if s.Named != nil {
		out.Named = func(obj Object) { v.change(obj, s.Named) }
	}
	if s.PrepareUpdate != nil {
		out.PrepareUpdate = func(obj, old Object) {
			if before, err := v.To(old); err == nil {
				v.change(obj, func(kept Object) { s.PrepareUpdate(kept, before) })
			}
		}
	}
	out.Validate = func(obj Object) field.ErrorList { return v.check(obj, s.Validate) }
	out.ValidateUpdate = v.changeCheck(s.ValidateUpdate)
	if s.Warnings != nil {
		out.Warnings = func(obj Object) []string {
			kept, err := v.To(obj)
			if err != nil {
				return nil
			}
			return s.Warnings(kept)
		}
	}
	if s.SpecChanged != nil {
		out.SpecChanged = func(obj, old Object) bool {
			kept, err := v.To(obj)
			before, errOld := v.To(old)
			return err == nil && errOld == nil && s.SpecChanged(kept, before)
		}
	}
	return out
}

// change lets f change the object in its stored form. An object that cannot be converted stays as it is: validation refuses it.
func (v *via) change(obj Object, f func(Object)) {
	kept, err := v.To(obj)
	if err != nil {
		return
	}
	kept = kept.DeepCopyObject().(Object)
	f(kept)
	back, err := v.From(kept)
	if err != nil {
		return
	}
	gvk := obj.GetObjectKind().GroupVersionKind()
	reflect.ValueOf(obj).Elem().Set(reflect.ValueOf(back).Elem())
	obj.GetObjectKind().SetGroupVersionKind(gvk)
}

func (v *via) check(obj Object, f func(Object) field.ErrorList) field.ErrorList {
	kept, err := v.To(obj)
	if err != nil {
		return unconvertible(err)
	}
	return f(kept)
}

func (v *via) changeCheck(f func(obj, old Object) field.ErrorList) func(obj, old Object) field.ErrorList {
	return func(obj, old Object) field.ErrorList {
		before, err := v.To(old)
		if err != nil {
			return unconvertible(err)
		}
		return v.check(obj, func(kept Object) field.ErrorList { return f(kept, before) })
	}
}

// unconvertible: what one version has and the other has not is kept in annotations, so that is where a fault can be.
func unconvertible(err error) field.ErrorList {
	return field.ErrorList{field.Invalid(field.NewPath("metadata", "annotations"), field.OmitValueType{}, err.Error())}
}

func (v *via) field(f func(Object) string) func(Object) string {
	return func(obj Object) string {
		kept, err := v.To(obj)
		if err != nil {
			return ""
		}
		return f(kept)
	}
}

func (v *via) column(c Column) Column {
	cell := c.Cell
	c.Cell = func(obj Object, now time.Time) string {
		kept, err := v.To(obj)
		if err != nil {
			return "<unknown>"
		}
		return cell(kept, now)
	}
	return c
}

// subresource is one whose body is the object itself, such as status.
func (v *via) subresource(sub Subresource) Subresource {
	apply := sub.Apply
	sub.Apply = func(old Object, body runtime.Object, now time.Time) (Object, error) {
		before, err := v.To(old)
		if err != nil {
			return nil, err
		}
		asked, err := v.To(body.(Object))
		if err != nil {
			return nil, err
		}
		kept, err := apply(before, asked, now)
		if err != nil {
			return nil, err
		}
		return v.From(kept)
	}
	if sub.Validate != nil {
		sub.Validate = v.changeCheck(sub.Validate)
	}
	return sub
}
