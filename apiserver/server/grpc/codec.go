package grpc

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// framed is a message that is already encoded, as a list of shared buffers. Nobody modifies them.
type framed struct {
	parts mem.BufferSlice
	// boxes is room for what parts point to, so that not each of them is allocated.
	boxes []mem.SliceBuffer
}

// newFramed returns a message with room for some parts.
func newFramed(parts int) framed {
	return framed{parts: make(mem.BufferSlice, 0, parts), boxes: make([]mem.SliceBuffer, 0, parts)}
}

// add appends bytes without copying them.
func (f *framed) add(b []byte) {
	if len(f.boxes) == cap(f.boxes) {
		f.parts = append(f.parts, mem.SliceBuffer(b))
		return
	}
	f.boxes = append(f.boxes, b)
	f.parts = append(f.parts, &f.boxes[len(f.boxes)-1])
}

// passCodec passes framed messages through and leaves all others to the protobuf codec.
type passCodec struct{ next encoding.CodecV2 }

func newCodec() passCodec { return passCodec{encoding.GetCodecV2(proto.Name)} }

// Marshal implements encoding.CodecV2.
func (c passCodec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*framed); ok {
		return f.parts, nil
	}
	return c.next.Marshal(v)
}

// Unmarshal implements encoding.CodecV2.
func (c passCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if _, ok := v.(*framed); ok {
		return fmt.Errorf("a framed message is only sent")
	}
	return c.next.Unmarshal(data, v)
}

// Name implements encoding.CodecV2.
func (passCodec) Name() string { return proto.Name }
