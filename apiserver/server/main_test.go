package server_test

import (
	"testing"

	"go.uber.org/goleak"
)

// No test leaves a goroutine behind: a server that has stopped has stopped entirely. SPDY's library waits a second for someone to
// ask why closing a closed connection failed, on either side, which nobody does.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/moby/spdystream.(*Connection).shutdown"))
}
