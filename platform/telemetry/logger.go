package telemetry

import (
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// In production, lines below warn that repeat within a second are thinned: after the first
// thinFirst of a message, each thinThereafter-th is kept. What is left out is counted.
const (
	thinFirst      = 100
	thinThereafter = 100
)

// newLogger writes JSON lines to out, one Write each.
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
	if err := registerAll(reg, dropped); err != nil {
		return nil, level, err
	}
	perLevel := map[zapcore.Level]prometheus.Counter{}
	for _, l := range []zapcore.Level{zapcore.DebugLevel, zapcore.InfoLevel} {
		perLevel[l] = dropped.WithLabelValues(l.String())
	}

	core := zapcore.NewCore(zapcore.NewJSONEncoder(encoding), zapcore.Lock(zapcore.AddSync(out)), level)
	if cfg.Environment == Production {
		core = thin(core, func(l zapcore.Level) { perLevel[l].Inc() })
	}
	logger := zap.New(core, zap.Fields(
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

// thinned is a sampling core that lets every line at warn and above through: a sampler that drops
// repeated errors hides the outage it is asked about.
type thinned struct {
	zapcore.Core
}

// thin returns core with repeated lines below warn left out; dropped is called for each of them.
func thin(core zapcore.Core, dropped func(zapcore.Level)) zapcore.Core {
	hook := zapcore.SamplerHook(func(e zapcore.Entry, d zapcore.SamplingDecision) {
		if d&zapcore.LogDropped > 0 {
			dropped(e.Level)
		}
	})
	return thinned{zapcore.NewSamplerWithOptions(core, time.Second, thinFirst, thinThereafter, hook)}
}

// Check implements [zapcore.Core].
func (t thinned) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if e.Level < zapcore.WarnLevel {
		return t.Core.Check(e, ce)
	}
	if !t.Enabled(e.Level) {
		return ce
	}
	return ce.AddCore(e, t)
}

// With implements [zapcore.Core].
func (t thinned) With(fields []zapcore.Field) zapcore.Core { return thinned{t.Core.With(fields)} }

// Level lets [zapcore.LevelOf] see the level.
func (t thinned) Level() zapcore.Level { return zapcore.LevelOf(t.Core) }
