package grpcserver_test

import (
	"errors"
	"testing"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/slipwayhq/slipway/platform/grpcserver"
)

// registerBroken adds a service to the process whose request has a rule with a syntax error. It runs before every
// test: a validator that is being built ranges over the process's registry and reads it again within, which a
// registration between the two would block for ever.
func registerBroken() error {
	options := &descriptorpb.FieldOptions{}
	proto.SetExtension(options, validate.E_Field, &validate.FieldRules{Cel: []*validate.Rule{{
		Id: proto.String("broken"), Expression: proto.String("this.nonsense("),
	}}})
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("broken.proto"), Package: proto.String("test"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{
			Name: proto.String("Request"),
			Field: []*descriptorpb.FieldDescriptorProto{{
				Name: proto.String("name"), Number: proto.Int32(1), Options: options,
				Type:  descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
				Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			}},
		}},
		Service: []*descriptorpb.ServiceDescriptorProto{{
			Name: proto.String("Broken"),
			Method: []*descriptorpb.MethodDescriptorProto{{
				Name: proto.String("Call"), InputType: proto.String(".test.Request"), OutputType: proto.String(".test.Request"),
			}},
		}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		return err
	}
	return errors.Join(protoregistry.GlobalFiles.RegisterFile(file),
		protoregistry.GlobalTypes.RegisterMessage(dynamicpb.NewMessageType(file.Messages().Get(0))))
}

func TestServer_Listen_refusesRulesThatDoNotCompile(t *testing.T) {
	t.Parallel()
	b := newBundle(t, grpcserver.Config{})
	b.RegisterService(&grpc.ServiceDesc{ServiceName: "test.Broken", HandlerType: (*any)(nil)}, struct{}{})
	require.ErrorContains(t, b.Listen(), "compile validation rules of test.Request")
}
