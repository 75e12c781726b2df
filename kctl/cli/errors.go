package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// reconnectPause is how long a follower waits before it connects again after the connection broke: short enough not to be
// noticed, long enough not to spin while the server restarts.
const reconnectPause = 250 * time.Millisecond

// pause waits for reconnectPause or the end of ctx.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(reconnectPause):
		return nil
	}
}

// ignoreAbsent reports whether err says that an object does not exist and the user said that this is no error.
func ignoreAbsent(err error, ignore bool) bool {
	return ignore && apierrors.IsNotFound(err)
}

// warn prints a warning of the server's, once.
func (s *session) warn(warning string) {
	if s.warned == nil {
		s.warned = map[string]bool{}
	}
	if !s.warned[warning] {
		s.warned[warning] = true
		fmt.Fprintln(s.err, "Warning: "+warning)
	}
}

// timedOut reports whether err means that ctx's time is up. The connection may notice the deadline before ctx does.
func timedOut(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded)
}
