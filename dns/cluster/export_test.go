package cluster

import (
	"context"

	"bareboat.dev/client"
)

// WaitService waits until the services are as of a revision.
func (m *Mirror) WaitService(ctx context.Context, rev client.Revision) error {
	return m.services.WaitRevision(ctx, rev)
}
