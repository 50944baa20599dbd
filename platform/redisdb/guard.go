package redisdb

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

// pause is how long Redis is left alone after it did not answer.
const pause = time.Second

// errBypassed says that Redis was not asked because it did not answer a moment ago.
var errBypassed = errors.New("redis is bypassed")

// guard keeps calls away from a Redis that does not answer, so that not each of them pays the
// timeout: after a failure all calls are refused for a pause, then one is let through.
type guard struct {
	logger  *zap.Logger
	retryAt atomic.Int64 // Unix nanoseconds; 0 while Redis answers
}

func newGuard(logger *zap.Logger, name string) *guard {
	if logger == nil {
		logger = zap.NewNop()
	}
	return &guard{logger: logger.With(zap.String("name", name))}
}

// do runs op, or returns errBypassed. A missing key is not a failure.
func (g *guard) do(op func() error) error {
	if !g.admit() {
		return errBypassed
	}
	err := op()
	if err == nil || errors.Is(err, redis.Nil) {
		if g.retryAt.Swap(0) != 0 {
			g.logger.Info("redis answers again")
		}
		return err
	}
	if g.retryAt.Swap(time.Now().Add(pause).UnixNano()) == 0 {
		g.logger.Warn("redis is bypassed until it answers", zap.Error(err))
	}
	return err
}

// admit lets every call through while Redis answers, else one call each pause.
func (g *guard) admit() bool {
	retryAt := g.retryAt.Load()
	if retryAt == 0 {
		return true
	}
	now := time.Now()
	return now.UnixNano() >= retryAt && g.retryAt.CompareAndSwap(retryAt, now.Add(pause).UnixNano())
}
