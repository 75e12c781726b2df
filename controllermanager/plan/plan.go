package plan

import (
	"fmt"
	"time"

	"bareboat.dev/client"
)

// Object is any object of k8s.io/api.
type Object = client.Object

// Verb is what a write does.
type Verb uint8

// The verbs.
const (
	VerbCreate Verb = iota + 1
	VerbUpdate
	VerbMergePatch
	VerbDelete
)

func (v Verb) String() string {
	switch v {
	case VerbCreate:
		return "create"
	case VerbUpdate:
		return "update"
	case VerbMergePatch:
		return "patch"
	case VerbDelete:
		return "delete"
	}
	return fmt.Sprintf("verb(%d)", uint8(v))
}

// Write is one conditional write.
type Write struct {
	Verb Verb
	Kind Kind
	// Subresource is "status", "finalize", …; empty for the object itself.
	Subresource string
	// Object is the new object (create, update) or the object as it was seen (patch, delete): its uid and resource version
	// are the write's precondition.
	Object Object
	// Patch is a JSON merge patch (RFC 7396). It carries its precondition itself, in metadata.
	Patch []byte
	// Grace is how many seconds a deletion waits; nil for the kind's default.
	Grace *int64
	// Propagation of a deletion; the zero value is the kind's default.
	Propagation client.Propagation
	// AnyVersion drops the resource version from a deletion's precondition, for a decision that depends only on the object's
	// being there.
	AnyVersion bool
	// Guard, if set, names an object that must still exist, with this uid and not being deleted, by a quorum read just
	// before the write. Adoption needs it: a dependent given to an owner that is gone would be collected.
	Guard *Guard
}

// Guard is the condition of Write.Guard.
type Guard struct {
	Kind            Kind
	Namespace, Name string
	UID             string
}

// ID names the object that a write touches, for logs and for the rule of one write per object.
func (w Write) ID() string {
	return w.Kind.String() + " " + w.Object.GetNamespace() + "/" + w.Object.GetName()
}

// Create creates obj, which must have its name.
func Create(k Kind, obj Object) Write { return Write{Verb: VerbCreate, Kind: k, Object: obj} }

// Update replaces obj; obj carries the resource version that was decided from.
func Update(k Kind, obj Object) Write { return Write{Verb: VerbUpdate, Kind: k, Object: obj} }

// UpdateStatus replaces obj's status.
func UpdateStatus(k Kind, obj Object) Write {
	return Write{Verb: VerbUpdate, Kind: k, Object: obj, Subresource: "status"}
}

// MergePatch patches the object that was seen as obj.
func MergePatch(k Kind, obj Object, patch []byte) Write {
	return Write{Verb: VerbMergePatch, Kind: k, Object: obj, Patch: patch}
}

// Delete deletes the object that was seen as obj.
func Delete(k Kind, obj Object) Write { return Write{Verb: VerbDelete, Kind: k, Object: obj} }

// DeleteNow deletes obj without a grace period.
func DeleteNow(k Kind, obj Object) Write {
	zero := int64(0)
	return Write{Verb: VerbDelete, Kind: k, Object: obj, Grace: &zero}
}

// Event is a core/v1 Event to be recorded once the plan's writes went through.
type Event struct {
	About                 Object
	Type, Reason, Message string
	// Of, if not nil, is the write whose success the event reports; an event without one is recorded always.
	Of Object
}

// Plan is what a core decided.
type Plan struct {
	Writes []Write
	Events []Event
	// After is when to look again even if nothing changes; zero for not at all.
	After time.Duration
}

// Add appends writes.
func (p *Plan) Add(w ...Write) { p.Writes = append(p.Writes, w...) }

// Event appends an event that reports a fact, whatever becomes of the writes.
func (p *Plan) Event(about Object, eventType, reason, format string, args ...any) {
	p.Events = append(p.Events, Event{About: about, Type: eventType, Reason: reason, Message: fmt.Sprintf(format, args...)})
}

// EventOf appends an event that reports the success of the write that touches obj.
func (p *Plan) EventOf(obj, about Object, eventType, reason, format string, args ...any) {
	p.Events = append(p.Events, Event{About: about, Type: eventType, Reason: reason, Message: fmt.Sprintf(format, args...), Of: obj})
}

// LookAgain asks for another look at the given time, if that is sooner than what was asked before. A time that has passed
// means at once, which is a nanosecond.
func (p *Plan) LookAgain(now, at time.Time) {
	d := max(at.Sub(now), time.Nanosecond)
	if p.After == 0 || d < p.After {
		p.After = d
	}
}

// Empty reports whether the plan changes nothing.
func (p Plan) Empty() bool { return len(p.Writes) == 0 }

// Check returns an error if the plan breaks the contract of the package: a write without an object or name, without a
// precondition, or a second write of one object.
func (p Plan) Check() error {
	seen := make(map[string]bool, len(p.Writes))
	for _, w := range p.Writes {
		if w.Object == nil || w.Object.GetName() == "" {
			return fmt.Errorf("%s %s names no object", w.Verb, w.Kind)
		}
		id := w.ID()
		if seen[id] {
			return fmt.Errorf("%s is written twice in one plan", id)
		}
		seen[id] = true
		if w.Verb != VerbCreate && (w.Object.GetUID() == "" || w.Object.GetResourceVersion() == "") {
			return fmt.Errorf("%s %s carries no precondition", w.Verb, id)
		}
	}
	return nil
}
