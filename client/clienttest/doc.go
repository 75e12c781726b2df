// Package clienttest is a small working model of the API server, for tests of everything that talks to one.
//
// It keeps objects in memory and serves bareboat.api.v1.ResourceService over an in-memory connection: revisions, conflicts,
// generateName, uids, generations, label and field selectors, list snapshots with pages, watches that resume by revision,
// compaction, finalizers, graceful deletion of bound pods, the status and binding subresources, JSON and merge patches, batches
// and dry runs. It does not default, validate, authorize or collect garbage.
//
//	s := clienttest.NewServer(t)
//	c := s.Client()
//	client.Of(c, client.Nodes()).Create(ctx, node)
//	s.Fail(func(method string, ref *apiv1.ResourceRef) error { return status.Error(codes.Unavailable, "down") })
//	golden.Compare(t, s.Dump())
package clienttest
