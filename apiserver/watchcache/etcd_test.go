package watchcache_test

import (
	"fmt"
	"testing"

	"bareboat.dev/apiserver/storage/etcd"
	"bareboat.dev/apiserver/storage/etcd/etcdtest"
	"bareboat.dev/apiserver/watchcache"
)

// Watchers notice nothing of a store that is killed and started again, and reads are fresh again as soon as it answers.
func TestStoreRestarts(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	engine, err := etcd.Open(t.Context(), etcd.Config{Endpoints: []string{server.Endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	_, caches := serve(t, engine, podConfig())
	c, err := caches[0].Watch(deadline(t), watchcache.Query{}, watchcache.WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 3 {
		name := fmt.Sprintf("p%d", i)
		rev := commit(t, engine, putPod(t, "a", name, "web", "n1"))
		page := list(t, caches[0], watchcache.Query{}, watchcache.ListOptions{})
		if len(page.Items) != i+1 || page.Revision < rev {
			t.Errorf("%d pods at %d after the commit at %d", len(page.Items), page.Revision, rev)
		}
		want(t, events(t, c, 1), fmt.Sprintf("ADDED %s@%d", name, rev))
		if i < 2 {
			server.Restart(t)
			// The client finds out that the connection is gone by using it; a commit would have an unknown outcome.
			for {
				if _, err := engine.Current(deadline(t)); err == nil {
					break
				}
			}
		}
	}
}
