package cli

import (
	"context"
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
