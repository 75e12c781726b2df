package shim

import (
	"errors"
	"fmt"
)

// The errors of this package, to be matched with errors.Is.
var (
	// ErrInvalid: the request itself is wrong; trying again cannot help.
	ErrInvalid = errors.New("invalid")
	// ErrNotFound: no such container (or no pod in that state directory).
	ErrNotFound = errors.New("not found")
	// ErrExists: there is a container (or a pod) of that ID already.
	ErrExists = errors.New("already exists")
	// ErrNotRunning: the container is not in the phase that the call needs.
	ErrNotRunning = errors.New("not running")
	// ErrStart: the container or exec'd process could not be started, for a reason that lies in its configuration or image
	// (program not found, no permission, bad mount…). The message is what Kubernetes shows as the container's state.
	ErrStart = errors.New("cannot start")
	// ErrShimDead: no podshim answers for this pod; its containers are dead or dying. See [ReadState] and [Reap].
	ErrShimDead = errors.New("podshim is dead")
	// ErrRefused: [Pod.Dial] found nobody listening.
	ErrRefused = errors.New("connection refused")
)

// wireCodes gives each sentinel its name in the protocol.
func wireCodes() map[string]error {
	return map[string]error{
		"invalid": ErrInvalid, "notFound": ErrNotFound, "exists": ErrExists, "notRunning": ErrNotRunning,
		"start": ErrStart, "refused": ErrRefused,
	}
}

// WireError is an error as it crosses the socket. Unwrap gives back the sentinel.
type WireError struct {
	Code    string `json:"code,omitempty"`
	Message string `json:"message"`
}

// NewWireError prepares err for the socket; nil stays nil.
func NewWireError(err error) *WireError {
	if err == nil {
		return nil
	}
	w := &WireError{Message: err.Error()}
	for code, sentinel := range wireCodes() {
		if errors.Is(err, sentinel) {
			w.Code = code
		}
	}
	return w
}

func (w *WireError) Error() string { return w.Message }

// Unwrap returns the sentinel that the code names, or nil.
func (w *WireError) Unwrap() error { return wireCodes()[w.Code] }

func invalidf(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}
