package csi

import (
	"context"
	"errors"
	"fmt"
	"time"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// ErrNoDriver: no driver of that name is registered on this node.
var ErrNoDriver = errors.New("not found in the list of registered CSI drivers")

// callLimit bounds one call of a driver; mounting may mean formatting a disk.
const callLimit = 2 * time.Minute

// driver is a registered driver. It is immutable.
type driver struct {
	// made is when its registration socket was.
	made           time.Time
	name, endpoint string
	conn           *grpc.ClientConn
	node           spec.NodeClient
	// What the driver says of itself.
	stages, mountsGroup, expands, stats, multiWriter bool
	nodeID                                           string
	maxVolumes                                       int64
	topology                                         map[string]string
}

// dial connects to a socket on this host.
func dial(path string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// open asks a driver what it is and can do.
func open(ctx context.Context, name, endpoint string) (_ *driver, err error) {
	conn, err := dial(endpoint)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = conn.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	d := &driver{name: name, endpoint: endpoint, conn: conn, node: spec.NewNodeClient(conn)}
	info, err := d.node.NodeGetInfo(ctx, &spec.NodeGetInfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return nil, fmt.Errorf("NodeGetInfo: %w", err)
	}
	if info.GetNodeId() == "" {
		return nil, errors.New("NodeGetInfo: the driver gave no node id")
	}
	d.nodeID, d.maxVolumes, d.topology = info.GetNodeId(), info.GetMaxVolumesPerNode(), info.GetAccessibleTopology().GetSegments()
	can, err := d.node.NodeGetCapabilities(ctx, &spec.NodeGetCapabilitiesRequest{})
	if err != nil {
		return nil, fmt.Errorf("NodeGetCapabilities: %w", err)
	}
	for _, c := range can.GetCapabilities() {
		switch c.GetRpc().GetType() {
		case spec.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME:
			d.stages = true
		case spec.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER:
			d.multiWriter = true
		case spec.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP:
			d.mountsGroup = true
		case spec.NodeServiceCapability_RPC_EXPAND_VOLUME:
			d.expands = true
		case spec.NodeServiceCapability_RPC_GET_VOLUME_STATS:
			d.stats = true
		}
	}
	return d, nil
}

func (d *driver) close() { _ = d.conn.Close() }
