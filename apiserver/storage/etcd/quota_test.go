package etcd

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"

	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/storage/etcd/etcdtest"
)

// What an etcd that reaches its quota is said to have refused is not there: it applies what it took before it noticed, and reports
// that in the same words.
func TestQuotaReached(t *testing.T) {
	server := etcdtest.Start(t, "--quota-backend-bytes=8388608")
	e := open(t, server, nil)
	large := bytes.Repeat([]byte("x"), 1<<20)
	refused := 0
	for round := 0; round < 20 && refused == 0; round++ {
		errs := make([]error, 16)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() {
				_, errs[i] = e.Commit(t.Context(), storage.Op{Key: fmt.Sprintf("/%d/%d", round, i), Value: large, If: storage.Absent})
			})
		}
		wg.Wait()
		for i, err := range errs {
			if err == nil {
				continue
			}
			refused++
			_, _, got := e.Get(t.Context(), fmt.Sprintf("/%d/%d", round, i), storage.Latest)
			if !errors.Is(err, storage.ErrUnknownOutcome) && !errors.Is(got, storage.ErrNotFound) {
				t.Errorf("commit %d failed for certain and is there: %v", i, err)
			}
		}
	}
	if refused == 0 {
		t.Error("the quota was not reached")
	}
}
