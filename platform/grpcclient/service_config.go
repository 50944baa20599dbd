package grpcclient

import (
	"encoding/json"
	"fmt"
	"iter"
	"slices"

	_ "google.golang.org/grpc/health" // asks servers for their readiness
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// readiness is the health service's name for whether a server wants calls.
const readiness = "readiness"

// serviceConfig is the part of gRPC's service config that is used here; see
// grpc.service_config.ServiceConfig.
type serviceConfig struct {
	LoadBalancing []map[string]struct{} `json:"loadBalancingConfig"`
	HealthCheck   healthCheckConfig     `json:"healthCheckConfig"`
	Methods       []methodConfig        `json:"methodConfig,omitempty"`
	Throttling    *retryThrottling      `json:"retryThrottling,omitempty"`
}

type healthCheckConfig struct {
	ServiceName string `json:"serviceName"`
}

type methodConfig struct {
	Names []methodName `json:"name"`
	Retry retryPolicy  `json:"retryPolicy"`
}

type methodName struct {
	Service string `json:"service"`
	Method  string `json:"method"`
}

type retryPolicy struct {
	MaxAttempts       int      `json:"maxAttempts"`
	InitialBackoff    string   `json:"initialBackoff"`
	MaxBackoff        string   `json:"maxBackoff"`
	BackoffMultiplier float64  `json:"backoffMultiplier"`
	Codes             []string `json:"retryableStatusCodes"`
}

type retryThrottling struct {
	MaxTokens  int     `json:"maxTokens"`
	TokenRatio float64 `json:"tokenRatio"`
}

// newServiceConfig returns the service config as JSON. attempts below 2 and no services mean
// no retries.
func newServiceConfig(services []protoreflect.ServiceDescriptor, attempts int) (string, error) {
	config := serviceConfig{
		LoadBalancing: []map[string]struct{}{{"round_robin": {}}},
		HealthCheck:   healthCheckConfig{ServiceName: readiness},
	}
	names := repeatableMethods(services)
	if attempts > 1 && len(names) > 0 {
		config.Methods = []methodConfig{{Names: names, Retry: retryPolicy{
			MaxAttempts: attempts, InitialBackoff: "0.05s", MaxBackoff: "1s", BackoffMultiplier: 2,
			Codes: []string{"UNAVAILABLE"},
		}}}
		config.Throttling = &retryThrottling{MaxTokens: 10, TokenRatio: 0.1}
	}
	text, err := json.Marshal(config)
	if err != nil {
		return "", fmt.Errorf("encode service config: %w", err)
	}
	return string(text), nil
}

// findServices returns the definitions of the named services, each once: gRPC refuses a
// service config that names a method twice.
func findServices(names []string) ([]protoreflect.ServiceDescriptor, error) {
	var services []protoreflect.ServiceDescriptor
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		if err != nil {
			return nil, fmt.Errorf("find service %q: %w", name, err)
		}
		service, ok := found.(protoreflect.ServiceDescriptor)
		if !ok {
			return nil, fmt.Errorf("find service %q: the name is not a service's", name)
		}
		services = append(services, service)
	}
	return services, nil
}

// repeatableMethods returns the methods whose definitions allow that they are repeated.
func repeatableMethods(services []protoreflect.ServiceDescriptor) []methodName {
	var names []methodName
	for service, method := range methodsOf(services) {
		if repeatable(method) {
			names = append(names, methodName{Service: service, Method: string(method.Name())})
		}
	}
	return names
}

// methodsOf yields each method with the full name of its service.
func methodsOf(services []protoreflect.ServiceDescriptor) iter.Seq2[string, protoreflect.MethodDescriptor] {
	return func(yield func(string, protoreflect.MethodDescriptor) bool) {
		for _, service := range services {
			for i := range service.Methods().Len() {
				if !yield(string(service.FullName()), service.Methods().Get(i)) {
					return
				}
			}
		}
	}
}

func repeatable(m protoreflect.MethodDescriptor) bool {
	o, ok := m.Options().(*descriptorpb.MethodOptions)
	return ok && o.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN
}
