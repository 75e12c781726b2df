package server

import (
	"context"
	"io"
	"testing"

	"bareboat.dev/kubelet/shim"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// TestFirstSize shows that a terminal's first size comes before one that is already on its way.
func TestFirstSize(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sent := false
	in := newInput(ctx, &shim.Size{Width: 1, Height: 1}, func() (message, error) {
		if sent {
			return nil, io.EOF
		}
		sent = true
		return &nodev1.AttachRequest{Request: &nodev1.AttachRequest_Resize{Resize: &nodev1.TerminalSize{Width: 2, Height: 2}}}, nil
	})
	for _, want := range []uint16{1, 2} {
		if got := <-in.sizes; got.Width != want {
			t.Errorf("width %d, want %d", got.Width, want)
		}
	}
	if _, err := io.ReadAll(in.stdin); err != nil {
		t.Error(err)
	}
}
