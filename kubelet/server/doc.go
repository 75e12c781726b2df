// Package server serves bareboat.node.v1.NodeService: it reaches into the node's pods and images for the API server.
//
// Only administrators (client certificates of the organization system:masters) and the API server's own kubelet client are
// let in; see [Authorize]. Who may do what to which pod, the API server has decided before it passes a stream on.
package server
