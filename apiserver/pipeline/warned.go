package pipeline

// WarnedError is why a request is refused, with what its user is told besides.
type WarnedError struct {
	Err      error
	Warnings []string
}

func (e *WarnedError) Error() string { return e.Err.Error() }

// Unwrap returns why the request is refused.
func (e *WarnedError) Unwrap() error { return e.Err }

// warned adds a refused request's warnings to the error; nil stays nil.
func warned(r *Request, err error) error {
	if err == nil {
		return nil
	}
	if warnings := r.Notes.Warnings(); len(warnings) > 0 {
		return &WarnedError{err, warnings}
	}
	return err
}
