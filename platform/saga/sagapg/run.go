package sagapg

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/failpoint"
	"github.com/slipwayhq/slipway/platform/internal/correlation"
	"github.com/slipwayhq/slipway/platform/saga"
)

// run takes one saga as far as it goes now. Only its goroutine uses it, but for what call
// reads, which does not change while calls are on their way.
type run struct {
	*claimed

	t        *term
	sagaID   string // as text
	logger   *zap.Logger
	results  chan result
	stored   chan error // for what becomes of its records
	flying   int
	attempts []attempt // that are not stored yet
	dirty    bool      // something is not stored yet
	newData  []byte
}

// result is a call that has come back.
type result struct {
	saga.Result

	command saga.Command
	before  []byte // the data that the call began with
	attempt attempt
}

// execute runs a saga until it is over, rests for longer, needs an operator or belongs to
// another process, or until ctx ends: then only calls on their way are waited for. When
// life ends they are given up.
func (t *term) execute(ctx, life context.Context, c *claimed) {
	n := &run{claimed: c, t: t, sagaID: c.id.String(), results: make(chan result, 1), stored: make(chan error, 1)}
	calls := propagator.Extract(life, c.headers)
	n.logger = t.r.logger.WithLazy(zap.String("saga", c.def.plan.Name), zap.String("saga_id", n.sagaID),
		zap.String(correlation.Key, correlation.ID(calls)))
	if c.broken != nil {
		n.logger.Error("saga cannot go on: its progress does not fit its definition", zap.Error(c.broken))
		return // it stays with this worker for a while, and counts as stuck
	}
	err := n.loop(ctx, calls)
	if err != nil && !errors.Is(err, errRefused) && life.Err() == nil {
		n.logger.Error("saga cannot go on", zap.Error(err))
	}
	for ; n.flying > 0; n.flying-- {
		<-n.results
	}
}

// loop takes no new work on when ctx ends; calls is the context of the calls.
func (n *run) loop(ctx, calls context.Context) error {
	commands := n.begin()
	for {
		if n.instance.Status.Final() || len(commands) == 0 && n.flying == 0 || ctx.Err() != nil && n.flying == 0 {
			done, err := n.pause(ctx)
			if done || err != nil {
				return err
			}
			commands = n.next(saga.Event{Kind: saga.Resumed})
			continue
		}
		if n.dirty {
			if err := n.store(n.record()); err != nil {
				return err
			}
		}
		if !n.t.worker.trust.holds() {
			return errEnded
		}
		n.start(calls, commands)
		commands = n.await()
	}
}

// await returns what is to be done when a call comes back, or another step of the group is
// due.
func (n *run) await() []saga.Command {
	var due <-chan time.Time
	if wake := n.def.plan.Wake(n.instance); !wake.IsZero() {
		timer := time.NewTimer(max(wake.Sub(n.t.worker.clock.now()), time.Millisecond))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case res := <-n.results:
		return n.take(res)
	case <-due:
		return n.next(saga.Event{Kind: saga.Elapsed})
	}
}

// begin returns the first calls. What may have been called by a process that was lost is
// stored before anything is called again: a step that ends its process must not do so for
// ever.
func (n *run) begin() []saga.Command {
	if !n.begun {
		deadline := n.instance.Deadline // from the start, not from now
		n.instance, _ = n.def.plan.Start(n.sagaID, n.t.worker.clock.now())
		n.instance.Deadline = deadline
	}
	for range n.lost {
		n.next(saga.Event{Kind: saga.Lost, Signal: n.signal != nil})
	}
	if n.signal != nil {
		n.next(saga.Event{Kind: saga.Signaled})
	}
	return n.next(saga.Event{Kind: saga.Resumed})
}

// next gives an event to the machine. What it decides is stored before anything is called
// on the strength of it.
func (n *run) next(e saga.Event) (commands []saga.Command) {
	before := n.instance
	n.instance, commands = n.def.plan.Next(n.sagaID, before, e, n.t.worker.clock.now())
	n.dirty = n.dirty || n.instance.Differs(before)
	return commands
}

// start makes the calls, a single one without a goroutine of its own.
func (n *run) start(ctx context.Context, commands []saga.Command) {
	for _, c := range commands {
		n.flying++
		v := saga.Invocation{
			Command: c, ID: n.sagaID, Stage: n.instance.Stage, Data: n.data, Reason: n.instance.Reason, Token: n.token,
		}
		if n.signal != nil {
			v.Signal = n.signal.payload
		}
		deadline := n.deadline(c)
		if len(commands) == 1 && n.flying == 1 {
			n.results <- n.call(ctx, v, deadline)
			return
		}
		go func() { n.results <- n.call(ctx, v, deadline) }()
	}
}

// deadline is when an action ends, beside its own timeout; zero for never. What finds out
// what became of it, or undoes it, has all its time.
func (n *run) deadline(c saga.Command) time.Time {
	if c.Kind != saga.CallAction || n.instance.Reason != "" || !n.def.plan.CanCompensate(n.instance) {
		return time.Time{}
	}
	return n.instance.Deadline
}

// startSpan begins a trace for one call, linked to the one in which the saga was started: a
// saga may take hours, and a trace of it would be slow however well all went.
func (n *run) startSpan(ctx context.Context, v saga.Invocation, step string) (context.Context, trace.Span) {
	name := n.def.plan.Name
	options := []trace.SpanStartOption{trace.WithNewRoot(), trace.WithAttributes(
		attribute.String("saga.name", name), attribute.String("saga.id", v.ID),
		attribute.String("saga.call", v.Kind.String()), attribute.Int("saga.attempt", v.Attempt))}
	if origin := trace.SpanContextFromContext(ctx); origin.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: origin}))
	}
	return n.t.r.tracer.Start(ctx, "saga "+name+" "+step, options...)
}

// call makes one call.
func (n *run) call(ctx context.Context, v saga.Invocation, deadline time.Time) result {
	plan := n.def.plan
	step := plan.StepName(v.Stage, v.Command)
	ctx, span := n.startSpan(ctx, v, step)
	defer span.End()
	if !deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, deadline.Sub(n.t.worker.clock.now()))
		defer cancel()
	}
	began := time.Now()
	res := result{command: v.Command, before: v.Data}
	failpoint.At(failpoint.BeforeCall, step)
	res.Result = n.def.Invoke(ctx, v)
	failpoint.At(failpoint.AfterCall, step)
	res.attempt = attempt{
		at: n.t.worker.clock.now(), took: time.Since(began), command: v.Command, class: res.Class, step: step, error: text(res.Err),
	}
	if sc := span.SpanContext(); sc.HasTraceID() {
		res.attempt.traceID = sc.TraceID().String()
	}
	if res.Err != nil {
		span.RecordError(res.Err)
		span.SetStatus(codes.Error, res.Class.String())
		n.logger.Warn("saga step failed", zap.String("step", step), zap.Int("attempt", v.Attempt),
			zap.Stringer("class", res.Class), zap.String("trace_id", res.attempt.traceID), zap.Error(res.Err))
	}
	n.t.r.metrics.observe(plan.Name, step, res.attempt)
	return res
}

// take gives a result to the machine.
func (n *run) take(res result) []saga.Command {
	n.flying--
	n.dirty = true
	merged, err := saga.Merge(n.data, res.before, res.Data)
	if err != nil {
		res.Class, res.Err, res.attempt.class, res.attempt.error = saga.ClassUnknown, err, saga.ClassUnknown, text(err)
	} else if res.Data != nil {
		n.data, n.newData = merged, merged
	}
	n.attempts = append(n.attempts, res.attempt)
	e := res.Event(res.command)
	e.Error = res.attempt.error
	return n.next(e)
}

// pause is for a saga of which nothing is to be done now, or by this process. A short one
// is slept through; after a longer one the saga belongs to whoever comes first. It is done
// when the saga is out of the hands of this run.
func (n *run) pause(ctx context.Context) (done bool, err error) {
	n.instance = n.instance.WithoutCalls()
	rec := n.record()
	wake := n.def.plan.Wake(n.instance)
	left := wake.Sub(n.t.worker.clock.now())
	if rec.finished || wake.IsZero() || ctx.Err() != nil || left > n.t.r.cfg.Hold || rec.waitsFor != "" {
		rec.next, rec.release = wake, true
		if err := n.store(rec); err != nil {
			return true, err
		}
		n.t.left(n, rec)
		return true, nil
	}
	if n.dirty {
		if err := n.store(rec); err != nil {
			return true, err
		}
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return false, nil
}

// record is the saga as it is now.
func (n *run) record() *record {
	i := n.instance
	rec := &record{
		id: n.id, token: n.token, instance: i, steps: i.EncodeSteps(), data: n.newData, attempts: n.attempts,
		finished: i.Status.Final(), stored: n.stored,
	}
	if i.Waiting(n.def.plan) {
		rec.waitsFor = n.def.plan.Stages[i.Stage].Steps[0].Name
	}
	if n.signal != nil && !i.Waiting(n.def.plan) {
		rec.took, n.signal = n.signal.id, nil
	}
	return rec
}

// store returns when the record is stored, or why it is not.
func (n *run) store(rec *record) error {
	if err := n.t.journal.put(rec); err != nil {
		return err
	}
	n.attempts, n.newData, n.dirty = nil, nil, false
	return nil
}

// maxText bounds what is stored of an error.
const maxText = 2000

// text is what can be stored of an error.
func text(err error) string {
	if err == nil {
		return ""
	}
	s := strings.ToValidUTF8(strings.ReplaceAll(err.Error(), "\x00", ""), "?")
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return s
}
