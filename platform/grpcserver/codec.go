package grpcserver

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// inbound stands in for a request message while it is received. grpc-go answers a message
// that it cannot decode with INTERNAL on its own, before any interceptor is asked; but bad
// bytes are the caller's fault and must neither look like ours nor page anyone.
type inbound struct {
	msg any
	err error
}

// codec is the protobuf codec, except that the error of decoding an inbound message is
// kept in it.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// Unmarshal implements [encoding.CodecV2].
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	in, ok := v.(*inbound)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	in.err = c.CodecV2.Unmarshal(data, in.msg)
	return nil
}
