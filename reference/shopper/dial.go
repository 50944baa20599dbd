package main

import (
	"google.golang.org/grpc"

	"github.com/slipwayhq/slipway/platform/grpcclient"
)

// dial opens one connection for calls and one for streams, so that many watched orders cannot
// use up the streams that a server allows on a connection. The client does not retry: the
// shopper repeats calls itself and counts them. It has no circuit breaker either: what it reports is what
// the service answered.
func dial(opts options) (calls, streams *grpc.ClientConn, err error) {
	cfg := opts.client(opts.addr)
	if calls, err = grpcclient.Dial(cfg, grpcclient.WithoutRetries()); err != nil {
		return nil, nil, err
	}
	if streams, err = grpcclient.Dial(cfg, grpcclient.WithoutRetries()); err != nil {
		calls.Close()
		return nil, nil, err
	}
	return calls, streams, nil
}

// client is how the shopper speaks with a service.
func (o options) client(target string) grpcclient.Config {
	return grpcclient.Config{
		Target: target, Insecure: !o.tls, TLS: grpcclient.TLS{CAFile: o.caFile}, BreakerDisabled: true,
	}
}
