package dra

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/dra/v1"
	beta "k8s.io/kubelet/pkg/apis/dra/v1beta1"

	"bareboat.dev/kubelet/plugins"
)

// askLimit bounds one request to a driver, as the kubelet of Kubernetes does: it may have to load firmware.
const askLimit = 45 * time.Second

// driver is a registered driver.
type driver struct {
	name string
	conn *grpc.ClientConn
	// prepare and unprepare are the methods in the version that it speaks.
	prepare, unprepare string
}

// accept makes a driver of what a plug-in tells of itself.
func accept(p plugins.Plugin) (*driver, error) {
	d := &driver{name: p.Name}
	if d.name == "" || strings.ContainsAny(d.name, "/\x00") || d.name == ".." {
		return nil, fmt.Errorf("invalid driver name %q", d.name)
	}
	switch versions := p.Versions; {
	case slices.Contains(versions, api.DRAPluginService):
		d.prepare, d.unprepare = api.DRAPlugin_NodePrepareResources_FullMethodName, api.DRAPlugin_NodeUnprepareResources_FullMethodName
	case slices.Contains(versions, beta.DRAPluginService): // the messages are the same but for the package's name
		d.prepare, d.unprepare = beta.DRAPlugin_NodePrepareResources_FullMethodName, beta.DRAPlugin_NodeUnprepareResources_FullMethodName
	default:
		return nil, fmt.Errorf("versions %v of DRA driver %s: none of %s and %s", versions, d.name, api.DRAPluginService, beta.DRAPluginService)
	}
	if !filepath.IsAbs(p.Endpoint) {
		return nil, fmt.Errorf("endpoint %q of DRA driver %s is not an absolute path", p.Endpoint, d.name)
	}
	var err error
	d.conn, err = grpc.NewClient("unix:"+p.Endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	return d, err
}

func (d *driver) close() { _ = d.conn.Close() }

// prepareClaims asks for claims to be made usable. Each of them has an answer.
func (d *driver) prepareClaims(ctx context.Context, claims []*api.Claim) (map[string]*api.NodePrepareResourceResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	out := &api.NodePrepareResourcesResponse{}
	if err := d.conn.Invoke(ctx, d.prepare, &api.NodePrepareResourcesRequest{Claims: claims}, out); err != nil {
		return nil, fmt.Errorf("NodePrepareResources of %s: %w", d.name, err)
	}
	for _, c := range claims {
		answer := out.GetClaims()[c.GetUid()]
		switch {
		case answer == nil:
			return nil, fmt.Errorf("NodePrepareResources of %s skipped claim %s/%s", d.name, c.GetNamespace(), c.GetName())
		case answer.GetError() != "":
			return nil, fmt.Errorf("NodePrepareResources of %s failed for claim %s/%s: %s", d.name, c.GetNamespace(), c.GetName(), answer.GetError())
		}
	}
	return out.GetClaims(), nil
}

// unprepareClaim asks for a claim to be given back.
func (d *driver) unprepareClaim(ctx context.Context, c *api.Claim) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	out := &api.NodeUnprepareResourcesResponse{}
	if err := d.conn.Invoke(ctx, d.unprepare, &api.NodeUnprepareResourcesRequest{Claims: []*api.Claim{c}}, out); err != nil {
		return fmt.Errorf("NodeUnprepareResources of %s: %w", d.name, err)
	}
	switch answer, ok := out.GetClaims()[c.GetUid()]; {
	case !ok:
		return fmt.Errorf("NodeUnprepareResources of %s skipped claim %s/%s", d.name, c.GetNamespace(), c.GetName())
	case answer.GetError() != "":
		return fmt.Errorf("NodeUnprepareResources of %s failed for claim %s/%s: %s", d.name, c.GetNamespace(), c.GetName(), answer.GetError())
	}
	return nil
}
