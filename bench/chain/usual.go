package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// startUsual puts together what the documentation of each of the libraries says, with one log
// line a call.
func startUsual(accessLog func(*zap.Logger) grpc.UnaryServerInterceptor) startFunc {
	return func(ctx context.Context, name, collector string) (string, func() error, error) {
		return serveUsual(ctx, name, collector, accessLog)
	}
}

func serveUsual(
	ctx context.Context, name, collector string, accessLog func(*zap.Logger) grpc.UnaryServerInterceptor,
) (string, func() error, error) {
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(collector))
	if err != nil {
		return "", nil, fmt.Errorf("create exporter: %w", err)
	}
	tracers := sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(sampleRatio))),
		sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", name))),
	)
	metrics := grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram())
	if err := prometheus.NewRegistry().Register(metrics); err != nil {
		return "", nil, fmt.Errorf("register metrics: %w", err)
	}
	logger := zap.New(zapcore.NewCore(
		zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.Lock(zapcore.AddSync(io.Discard)), zap.InfoLevel))
	server := grpc.NewServer(
		grpc.StatsHandler(otelgrpc.NewServerHandler(
			otelgrpc.WithTracerProvider(tracers),
			otelgrpc.WithPropagators(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})),
		)),
		grpc.ChainUnaryInterceptor(
			metrics.UnaryServerInterceptor(),
			accessLog(logger),
			recovery.UnaryServerInterceptor(),
		),
	)
	addr, stop, err := serveGRPC(server)
	metrics.InitializeMetrics(server)
	return addr, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		return errors.Join(stop(), tracers.Shutdown(ctx))
	}, err
}

// leanLog is about the least that an access log can do.
func leanLog(l *zap.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		start := time.Now()
		resp, err := handler(ctx, req)
		l.Info("call finished", zap.String("method", info.FullMethod), zap.Stringer("code", status.Code(err)),
			zap.Duration("duration", time.Since(start)), zap.Error(err))
		return resp, err
	}
}

func middlewareLog(l *zap.Logger) grpc.UnaryServerInterceptor {
	return logging.UnaryServerInterceptor(zapLogger(l), logging.WithLogOnEvents(logging.FinishCall))
}

// zapLogger is the adapter from the middleware's own examples.
func zapLogger(l *zap.Logger) logging.Logger {
	return logging.LoggerFunc(func(_ context.Context, level logging.Level, msg string, fields ...any) {
		f := make([]zap.Field, 0, len(fields)/2)
		for i := 0; i < len(fields); i += 2 {
			key := fields[i].(string)
			switch v := fields[i+1].(type) {
			case string:
				f = append(f, zap.String(key, v))
			case int:
				f = append(f, zap.Int(key, v))
			case bool:
				f = append(f, zap.Bool(key, v))
			default:
				f = append(f, zap.Any(key, v))
			}
		}
		logger := l.WithOptions(zap.AddCallerSkip(1)).With(f...)
		switch level {
		case logging.LevelDebug:
			logger.Debug(msg)
		case logging.LevelInfo:
			logger.Info(msg)
		case logging.LevelWarn:
			logger.Warn(msg)
		default:
			logger.Error(msg)
		}
	})
}
