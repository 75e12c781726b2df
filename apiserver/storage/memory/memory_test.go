package memory_test

import (
	"testing"

	"go.uber.org/goleak"

	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/memory"
	"bareboat.dev/apiserver/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The memory engine keeps the storage contract.
func TestConformance(t *testing.T) {
	storagetest.Run(t, storagetest.Setup{New: func(testing.TB) storage.Engine { return memory.New() }})
}
