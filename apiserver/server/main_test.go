package server_test

import (
	"testing"

	"go.uber.org/goleak"
)

// No test leaves a goroutine behind: a server that has stopped has stopped entirely.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
