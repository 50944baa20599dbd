package grpcclient_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/breaker"
	"github.com/slipwayhq/slipway/platform/grpcclient"
)

func TestConfig_SetDefaults(t *testing.T) {
	t.Parallel()
	cfg := grpcclient.Config{Target: "localhost:50051", MaxAttempts: 5}
	cfg.SetDefaults()
	guard := breaker.Config{Name: "localhost:50051"}
	guard.SetDefaults()
	require.Equal(t, grpcclient.Config{
		Target: "localhost:50051", Timeout: 5 * time.Second, MaxAttempts: 5, MaxRecvBytes: 4 << 20, MaxSendBytes: 4 << 20,
		KeepaliveTime: 30 * time.Second, KeepaliveTimeout: 10 * time.Second, Breaker: guard,
	}, cfg)
	require.NoError(t, cfg.Validate())
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	t.Run("every bad value is named at once", func(t *testing.T) {
		t.Parallel()
		err := grpcclient.Config{
			Timeout: -1, MaxAttempts: 6, MaxRecvBytes: -1, MaxSendBytes: -1, KeepaliveTime: time.Second,
			KeepaliveTimeout: -1, Insecure: true, TLS: grpcclient.TLS{CertFile: "tls.crt"},
			Breaker: breaker.Config{Failures: 1, Ratio: 2, MinCalls: 1, Window: -1, OpenTimeout: 1, MaxOpen: 1, HalfOpenProbes: -1},
		}.Validate()
		for _, text := range []string{
			"TARGET: is required", "TIMEOUT: -1ns", "MAX_ATTEMPTS: 6", "MAX_RECV_BYTES: -1", "MAX_SEND_BYTES: -1", "KEEPALIVE_TIME: 1s",
			"KEEPALIVE_TIMEOUT: -1ns", "INSECURE: excludes TLS", "BREAKER_RATIO: 2",
			"BREAKER_WINDOW: -1ns", "BREAKER_OPEN_TIMEOUT: 1ns", "BREAKER_HALF_OPEN_PROBES: -1", "both a certificate file and a key file",
		} {
			require.ErrorContains(t, err, text)
		}
	})
}

func TestDial_errors(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	taken := prometheus.NewRegistry()
	taken.MustRegister(prometheus.NewCounterVec(prometheus.CounterOpts{Name: "grpc_client_handled_total"}, []string{"other"}))
	for _, c := range []struct {
		name, text string
		cfg        grpcclient.Config
		opt        grpcclient.Option
	}{
		{name: "no target", text: "TARGET: is required"},
		{name: "malformed target", cfg: grpcclient.Config{Target: "%zz"}, text: "dial %zz"},
		{name: "missing authorities", cfg: grpcclient.Config{Target: "x", TLS: grpcclient.TLS{CAFile: empty + "?"}}, text: "load TLS authorities"},
		{name: "empty authorities", cfg: grpcclient.Config{Target: "x", TLS: grpcclient.TLS{CAFile: empty}}, text: "no certificate in"},
		{name: "bad certificate", cfg: grpcclient.Config{Target: "x", TLS: grpcclient.TLS{CertFile: empty, KeyFile: empty}}, text: "load TLS certificate"},
		{name: "unknown service", cfg: grpcclient.Config{Target: "x"}, opt: grpcclient.WithServices("no.Such"), text: `find service "no.Such"`},
		{name: "name of a message", cfg: grpcclient.Config{Target: "x"}, opt: grpcclient.WithServices("slipway.order.v1.Order"), text: "not a service's"},
		{
			name: "breaker of no method", cfg: grpcclient.Config{Target: "x"},
			opt: grpcclient.WithMethodBreaker("GetOrder", breaker.Config{}), text: `circuit breaker of "GetOrder": not the full name`,
		},
		{
			name: "bad breaker of a method", cfg: grpcclient.Config{Target: "x"},
			opt: grpcclient.WithMethodBreaker("/s/m", breaker.Config{Ratio: 2}), text: `circuit breaker config of /s/m`,
		},
		{name: "metric of another shape", cfg: grpcclient.Config{Target: "x"}, opt: grpcclient.WithRegisterer(taken), text: "register gRPC client metrics"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var opts []grpcclient.Option
			if c.opt != nil {
				opts = append(opts, c.opt)
			}
			_, err := grpcclient.Dial(c.cfg, opts...)
			require.ErrorContains(t, err, c.text)
		})
	}
}
