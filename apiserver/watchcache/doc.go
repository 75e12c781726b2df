// Package watchcache answers the API's reads: it mirrors the store in memory, one Cache per resource, and serves lists and
// watches from there without touching the store or decoding an object more than once.
//
// A Feed reads one engine watch over the whole store and hands each change to the Cache that its key belongs to, so that
// all caches move through the same revisions together. A Cache is a copy-on-write B-tree of encoded objects (a snapshot
// costs nothing), trees ordered by declared fields, and one bounded log of events. A watcher is a Cursor into that log: it
// holds a position and no events, costs the same whether it is fast or slow, and is told with ErrExpired when the log has
// moved past it. Cursors are woken through the field, label, namespace and name that they select on, so that an event on
// one node's pod wakes one kubelet's cursor.
//
// The contract: a list at revision R and a watch from R together give every change that matches, exactly once and in the
// order of revisions, or an explicit error. A cursor always says up to which revision it has delivered everything. An
// object that stops matching is delivered as Deleted with its last matching state and the revision at which it stopped.
// Reads that name no revision are quorum-fresh: they show at least everything that was committed, through any server, when
// they were called.
//
//	feed := watchcache.NewFeed(engine, watchcache.FeedConfig{Prefix: "/registry/", Log: log})
//	pods, err := feed.Add(watchcache.Config{Name: "pods", Prefix: "/registry/pods/", Namespaced: true, Decode: decode,
//		Fields: fields, Indexes: []string{"spec.nodeName"}})
//	go feed.Run(ctx)
//	page, err := pods.List(ctx, watchcache.Query{Namespace: "default"}, watchcache.ListOptions{})
//	cursor, err := pods.Watch(ctx, watchcache.Query{Namespace: "default"}, watchcache.WatchOptions{From: page.Revision})
//	defer cursor.Close()
//	batch, err := cursor.Next(ctx)
package watchcache
