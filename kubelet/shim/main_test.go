package shim_test

import (
	"fmt"
	"os"
	"testing"

	"bareboat.dev/kubelet/shim/shimtest"
	"go.uber.org/goleak"
)

// Every test of this package uses one podshim and ends with no goroutine left behind.
func TestMain(m *testing.M) {
	remove, err := shimtest.Share()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		remove()
		os.Exit(code)
	}))
}
