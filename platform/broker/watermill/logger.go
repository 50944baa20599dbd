package watermill

import (
	"context"
	"errors"

	"github.com/ThreeDotsLabs/watermill"
	"go.uber.org/zap"
)

// NewLogger returns a logger for parts of Watermill. What it calls info is debug
// here, as are the errors of what was told to end, and what it traces is left out. A
// nil logger is none.
func NewLogger(log *zap.Logger) watermill.LoggerAdapter {
	if log == nil {
		log = zap.NewNop()
	}
	return adapter{log.Named("watermill")}
}

type adapter struct{ log *zap.Logger }

// Error implements watermill.LoggerAdapter.
func (a adapter) Error(msg string, err error, fields watermill.LogFields) {
	level := zap.ErrorLevel
	if errors.Is(err, context.Canceled) {
		level = zap.DebugLevel
	}
	a.log.Log(level, msg, append(zapFields(fields), zap.Error(err))...)
}

// Info implements watermill.LoggerAdapter.
func (a adapter) Info(msg string, fields watermill.LogFields) {
	a.log.Debug(msg, zapFields(fields)...)
}

// Debug implements watermill.LoggerAdapter.
func (a adapter) Debug(msg string, fields watermill.LogFields) {
	a.log.Debug(msg, zapFields(fields)...)
}

// Trace implements watermill.LoggerAdapter.
func (adapter) Trace(string, watermill.LogFields) {}

// With implements watermill.LoggerAdapter.
func (a adapter) With(fields watermill.LogFields) watermill.LoggerAdapter {
	return adapter{a.log.With(zapFields(fields)...)}
}

func zapFields(fields watermill.LogFields) []zap.Field {
	all := make([]zap.Field, 0, len(fields))
	for name, value := range fields {
		all = append(all, zap.Any(name, value))
	}
	return all
}
