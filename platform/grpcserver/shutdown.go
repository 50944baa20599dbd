package grpcserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Stage is a point of the shutdown at which an application has something to do.
type Stage uint8

const (
	// StageIntake is for stopping to take new work: consumers, relays, runners. Another
	// replica goes on with it. It comes first, as soon as readiness is NOT_SERVING.
	StageIntake Stage = iota
	// StageFinish is for finishing or handing back what is in hand, when no call is left.
	StageFinish
	// StageClose is for closing what calls and work needed: pools and connections. Its
	// functions run one after the other, last registered first.
	StageClose
	// StageFlush is for what must see everything before it: traces and logs.
	StageFlush
)

// String returns the name of the stage in logs.
func (s Stage) String() string {
	return [...]string{"intake", "finish", "close", "flush"}[s]
}

const (
	// handshakeGrace is how long connections in their handshake may take when the server
	// stops accepting.
	handshakeGrace = 250 * time.Millisecond
	// goAwayLead is the head start of GOAWAY before streams are told to end, so that a
	// client opens its stream again elsewhere and not on the connection that is closing.
	goAwayLead = 20 * time.Millisecond
	// cutOffGrace is how long handlers whose calls were cut off may take to notice.
	cutOffGrace = time.Second
)

type hook struct {
	stage Stage
	name  string
	fn    func(context.Context) error
}

// OnShutdown adds a function to a stage of the shutdown; add all of them before it begins.
// Functions of one stage run side by side, but for those of [StageClose]. Each has
// Config.HookTimeout, and one that fails, panics or hangs keeps no other from running.
func (s *Server) OnShutdown(stage Stage, name string, fn func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks = append(s.hooks, hook{stage, name, fn})
}

// Budget is the longest that [Server.Shutdown] can take with the functions registered so
// far: what the process needs between being told to stop and being killed.
func (s *Server) Budget() time.Duration {
	budget := s.cfg.DrainDelay + s.cfg.DrainTimeout + cutOffGrace
	for _, stage := range []Stage{StageIntake, StageFinish, StageFlush} {
		if len(s.hooksOf(stage)) > 0 {
			budget += s.cfg.HookTimeout
		}
	}
	return budget + time.Duration(len(s.hooksOf(StageClose)))*s.cfg.HookTimeout
}

// Shutdown drains the server, within [Server.Budget]. It returns what went wrong, joined:
// calls that had to be cut off, functions that failed. The steps that follow are taken all
// the same. When ctx ends, the delay and the wait for calls are cut short; the functions
// keep the time they have. A second call waits for the first and returns its error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	first := !s.draining
	s.draining = true
	s.mu.Unlock()
	if first {
		s.drainErr = s.drain(ctx)
		close(s.drained)
		return s.drainErr
	}
	select {
	case <-s.drained:
		return s.drainErr
	case <-ctx.Done():
		return fmt.Errorf("wait for the shutdown under way: %w", ctx.Err())
	}
}

// drain is the order in which everything stops.
func (s *Server) drain(ctx context.Context) error {
	start := time.Now()
	s.logger.Info("shutting down", zap.Duration("budget", s.Budget()))

	s.monitor.Drain()
	intake := s.runStage(ctx, StageIntake)
	wait(ctx, s.cfg.DrainDelay)
	calls := s.endCalls(ctx)
	finish := s.runStage(ctx, StageFinish)
	closing := s.runStage(ctx, StageClose)
	flush := s.runStage(ctx, StageFlush)
	s.stopProbe()

	err := errors.Join(intake, calls, finish, closing, flush)
	s.logger.Info("shut down", zap.Duration("duration", time.Since(start)), zap.Error(err))
	return err
}

// endCalls stops accepting, tells clients to go away and streams to end, and waits for the
// calls in flight; what outlasts DrainTimeout is cut off.
func (s *Server) endCalls(ctx context.Context) error {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DrainTimeout)
	defer cancel()

	finished := make(chan struct{})
	go func() {
		defer close(finished)
		s.grpc.GracefulStop()
	}()
	s.tellStreams(finished)

	select {
	case <-finished:
		return nil
	case <-ctx.Done():
	}
	return s.cutOff(finished, time.Since(start))
}

// tellStreams ends the contexts of open streams, right after GOAWAY was sent.
func (s *Server) tellStreams(finished <-chan struct{}) {
	defer s.endStreams()
	if lis, _ := s.listeners(); lis != nil {
		select {
		case <-lis.settled:
		case <-finished:
			return
		case <-time.After(handshakeGrace):
			lis.dropPending()
		}
	}
	select {
	case <-finished:
	case <-time.After(goAwayLead):
	}
}

// cutOff closes all connections and gives handlers a moment to notice, so that what they
// use is not closed under them.
func (s *Server) cutOff(finished <-chan struct{}, after time.Duration) error {
	calls := s.metrics.inFlight.total()
	if calls == 0 { // Only clients that do not answer to GOAWAY are left.
		s.grpc.Stop()
		return nil
	}
	s.metrics.cutOff.Add(float64(calls))
	s.logger.Error("cutting off calls that outlasted the drain",
		zap.Int64("calls", calls), zap.Duration("after", after))
	go s.grpc.Stop()
	select {
	case <-finished:
	case <-time.After(cutOffGrace):
		s.logger.Error("handlers ignore the end of their calls", zap.Int64("calls", s.metrics.inFlight.total()))
	}
	return fmt.Errorf("drain calls: %d cut off after %s", calls, after.Round(time.Millisecond))
}

func (s *Server) runStage(ctx context.Context, stage Stage) error {
	hooks := s.hooksOf(stage)
	errs := make([]error, len(hooks))
	if stage == StageClose {
		for i, h := range slices.Backward(hooks) {
			errs[i] = s.runHook(ctx, h)
		}
		return errors.Join(errs...)
	}
	var wg sync.WaitGroup
	for i, h := range hooks {
		wg.Go(func() { errs[i] = s.runHook(ctx, h) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *Server) runHook(ctx context.Context, h hook) error {
	start := time.Now()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.HookTimeout)
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- safely(ctx, h.fn) }()

	var err error
	select {
	case err = <-result:
	case <-ctx.Done():
		err = ctx.Err()
	}
	fields := []zap.Field{
		zap.Stringer("stage", h.stage), zap.String("name", h.name), zap.Duration("duration", time.Since(start)),
	}
	if err != nil {
		s.logger.Error("shutdown step", append(fields, zap.Error(err))...)
		return fmt.Errorf("shut down %s: %w", h.name, err)
	}
	s.logger.Info("shutdown step", fields...)
	return nil
}

func (s *Server) hooksOf(stage Stage) []hook {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.hooks), func(h hook) bool { return h.stage != stage })
}

// stopProbe ends the probe listener last: liveness is SERVING to the end.
func (s *Server) stopProbe() {
	lis, probe := s.listeners()
	if lis != nil {
		_ = lis.Close() // If it was never served, nobody else does.
	}
	if probe != nil {
		probe.dropPending()
		s.probe.Stop()
		_ = probe.Close()
	}
}

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// safely calls fn and returns its panic as an error.
func safely(ctx context.Context, fn func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return fn(ctx)
}
