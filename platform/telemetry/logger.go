package telemetry

import (
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// In production, lines below warn that repeat within a second are thinned: after the first
// sampleFirst of a message, each sampleThereafter-th is kept. What is dropped is counted.
const (
	sampleFirst      = 100
	sampleThereafter = 100
)

// newLogger writes JSON lines to out. Lines at warn and above are never sampled: a sampler that
// drops repeated errors hides the outage it is asked about.
func newLogger(cfg Config, out io.Writer, reg prometheus.Registerer) (*zap.Logger, zap.AtomicLevel, error) {
	threshold, err := zapcore.ParseLevel(cfg.LogLevel)
	if err != nil {
		return nil, zap.AtomicLevel{}, err
	}
	level := zap.NewAtomicLevelAt(threshold)
	dropped := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "log_lines_dropped_total",
		Help: "Log lines left out because the same message was logged too often within a second.",
	}, []string{"level"})
	if err := reg.Register(dropped); err != nil {
		return nil, level, err
	}

	sink := zapcore.Lock(zapcore.AddSync(out))
	encoder := zapcore.NewJSONEncoder(encoding)
	below := zapcore.NewCore(encoder, sink, zap.LevelEnablerFunc(func(l zapcore.Level) bool {
		return l < zapcore.WarnLevel && level.Enabled(l)
	}))
	above := zapcore.NewCore(encoder, sink, zap.LevelEnablerFunc(func(l zapcore.Level) bool {
		return l >= zapcore.WarnLevel && level.Enabled(l)
	}))
	if cfg.Environment == Production {
		count := map[zapcore.Level]prometheus.Counter{
			zapcore.DebugLevel: dropped.WithLabelValues("debug"),
			zapcore.InfoLevel:  dropped.WithLabelValues("info"),
		}
		below = zapcore.NewSamplerWithOptions(below, time.Second, sampleFirst, sampleThereafter,
			zapcore.SamplerHook(func(e zapcore.Entry, d zapcore.SamplingDecision) {
				if d&zapcore.LogDropped > 0 {
					count[e.Level].Inc()
				}
			}))
	}
	logger := zap.New(zapcore.NewTee(below, above), zap.Fields(
		zap.String("service", cfg.ServiceName),
		zap.String("version", cfg.ServiceVersion),
		zap.String("environment", string(cfg.Environment)),
	))
	return logger, level, nil
}

var encoding = zapcore.EncoderConfig{
	TimeKey:        "ts",
	LevelKey:       "level",
	MessageKey:     "msg",
	NameKey:        "logger",
	StacktraceKey:  "stack",
	EncodeTime:     func(t time.Time, e zapcore.PrimitiveArrayEncoder) { zapcore.RFC3339NanoTimeEncoder(t.UTC(), e) },
	EncodeLevel:    zapcore.LowercaseLevelEncoder,
	EncodeDuration: zapcore.SecondsDurationEncoder,
}
