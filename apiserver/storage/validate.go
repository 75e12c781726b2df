package storage

import "fmt"

// Validate checks what Commit demands of its ops whatever the state: ErrInvalid or ErrTooLarge. Engines call it first.
func Validate(ops []Op) error {
	if len(ops) == 0 {
		return fmt.Errorf("%w: no operation", ErrInvalid)
	}
	if len(ops) > MaxOps {
		return fmt.Errorf("%w: %d operations, the limit is %d", ErrTooLarge, len(ops), MaxOps)
	}
	size := 0
	for i, op := range ops {
		switch {
		case op.Key == "":
			return fmt.Errorf("%w: empty key", ErrInvalid)
		case op.Type != Put && op.Type != Delete && op.Type != Check:
			return fmt.Errorf("%w: %s: unknown operation %d", ErrInvalid, op.Key, op.Type)
		case op.If < Present:
			return fmt.Errorf("%w: %s: unknown condition %d", ErrInvalid, op.Key, op.If)
		}
		if repeats(ops[:i], op.Key) {
			return fmt.Errorf("%w: %s: named twice", ErrInvalid, op.Key)
		}
		size += OpBytes + 3*len(op.Key) + len(op.Value)
	}
	if size > MaxCommitBytes {
		return fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, size, MaxCommitBytes)
	}
	return nil
}

// repeats is quadratic over at most MaxOps keys, and free for the one or two of nearly every commit.
func repeats(ops []Op, key string) bool {
	for _, op := range ops {
		if op.Key == key {
			return true
		}
	}
	return false
}

// Holds reports whether the op's condition holds of a key that has the given entry, nil if it does not exist.
func (op Op) Holds(current *Entry) bool {
	switch op.If {
	case None:
		return current != nil || op.Type != Delete
	case Absent:
		return current == nil && op.Type != Delete
	case Present:
		return current != nil
	default:
		return current != nil && current.Modified == Revision(op.If)
	}
}
