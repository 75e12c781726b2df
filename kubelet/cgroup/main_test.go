package cgroup

import (
	"testing"

	"go.uber.org/goleak"
)

// Every test of this package ends with no goroutine left behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
