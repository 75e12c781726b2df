package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// defaultPatience is how long a registry may send nothing of an answer that it has begun: far more than a busy one needs, and little enough
// for the other pulls of a node, which wait for a slot or for the same layer.
const defaultPatience = 30 * time.Second

var errStalled = errors.New("stalled")

// patient ends requests whose answer stops coming.
type patient struct {
	next  http.RoundTripper
	limit time.Duration
}

// RoundTrip implements http.RoundTripper. Until the answer begins the transport's own limit counts.
func (p patient) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	resp, err := p.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		cancel(nil)
		return nil, err
	}
	b := &patientBody{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, limit: p.limit}
	b.timer = time.AfterFunc(p.limit, func() {
		cancel(fmt.Errorf("%w: %s has sent nothing for %s: %w", ErrUnavailable, r.URL.Host, p.limit, errStalled))
	})
	resp.Body = b
	return resp, nil
}

// patientBody is an answer's body; its timer runs out when nothing comes.
type patientBody struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	limit  time.Duration
}

// Read implements io.Reader. The time begins anew with what has come, and is not counted while the reader does something else.
func (b *patientBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.limit)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) {
		if cause := context.Cause(b.ctx); errors.Is(cause, errStalled) {
			return n, cause
		}
	}
	return n, err
}

// Close implements io.Closer.
func (b *patientBody) Close() error {
	b.timer.Stop()
	defer b.cancel(nil)
	return b.ReadCloser.Close()
}
