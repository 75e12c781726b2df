package server

import (
	"context"
	"fmt"
	"net"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bareboat.dev/kubelet/agent"
	"bareboat.dev/kubelet/shim"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// onePod is a node with one pod, which listens on one address.
type onePod struct {
	agent.Sandbox
	Pods
	listens string
}

func (o *onePod) Config() shim.PodConfig { return shim.PodConfig{UID: "u1"} }

func (o *onePod) Dial(_ context.Context, _, address string) (net.Conn, error) {
	if address != o.listens {
		return nil, fmt.Errorf("%s: %w", address, shim.ErrRefused)
	}
	near, far := net.Pipe()
	far.Close()
	return near, nil
}

func (o *onePod) SandboxOf(string, string) (agent.Sandbox, []string, error) {
	return o, []string{"10.1.0.5", "fd00::5"}, nil
}

// A connection goes to the pod that is meant, at an address of its own, and nowhere else; without an address, to its loopback only.
func TestPortForwardReachesThePodThatIsMeant(t *testing.T) {
	for name, c := range map[string]struct {
		listens, uid, address string
		want                  codes.Code
	}{
		"loopback":              {"127.0.0.1:80", "", "", codes.OK},
		"loopback of version 6": {"[::1]:80", "u1", "", codes.OK},
		"own address":           {"10.1.0.5:80", "u1", "10.1.0.5", codes.OK},
		"own second address":    {"[fd00::5]:80", "u1", "fd00::5", codes.OK},
		"in other words":        {"[fd00:0::5]:80", "u1", "fd00:0::5", codes.OK},
		"not on the network":    {"127.0.0.1:80", "u1", "10.1.0.5", codes.Unavailable},
		"not on loopback":       {"10.1.0.5:80", "u1", "", codes.Unavailable},
		"another pod":           {"127.0.0.1:80", "u2", "", codes.NotFound},
		"another's address":     {"10.1.0.9:80", "u1", "10.1.0.9", codes.InvalidArgument},
		"loopback as address":   {"127.0.0.1:80", "u1", "127.0.0.1", codes.InvalidArgument},
	} {
		s := &Server{pods: &onePod{listens: c.listens}}
		conn, err := s.dial(t.Context(), &nodev1.PortForwardRequest_Start{Namespace: "ns", Pod: "p", Port: 80, Uid: c.uid, Address: c.address})
		if got := status.Code(toStatus(err)); got != c.want {
			t.Errorf("%s: %v", name, err)
		}
		if conn != nil {
			conn.Close()
		}
	}
}
