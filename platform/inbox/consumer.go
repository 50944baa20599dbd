package inbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/postgres"
)

// Handler applies a message in the transaction that marks it as applied: what it
// writes with tx happens exactly once, whatever else it does happens at least
// once. It must not end tx. A message of a type that it does not know it ignores
// by returning nil, or refuses with Permanent.
//
// An error rolls tx back. Permanent ones and those that outlast MaxAttempts make
// the message a dead letter; a panic counts as an error that may pass. The context
// ends after HandlerTimeout. It carries the message's correlation id and a span of
// a trace of its own, linked to the one that the message comes from.
type Handler func(ctx context.Context, tx pgx.Tx, m broker.Message) error

// Consumer applies the messages of a subscription.
type Consumer struct {
	db      *pgxpool.Pool
	sub     broker.Subscriber
	cfg     Config
	handler Handler
	logger  *zap.Logger
	tracer  trace.Tracer
	metrics *metrics
}

// NewConsumer returns a consumer that does nothing before Run. logger, reg and tp
// may be nil. An error means that the configuration is wrong or that reg has a
// consumer of this name already.
func NewConsumer(db *pgxpool.Pool, sub broker.Subscriber, cfg Config, handle Handler,
	logger *zap.Logger, reg prometheus.Registerer, tp trace.TracerProvider,
) (*Consumer, error) {
	cfg.SetDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("check inbox configuration: %w", err)
	}
	m, err := newMetrics(cfg.Name, reg)
	if err != nil {
		return nil, err
	}
	if logger == nil {
		logger = zap.NewNop()
	}
	if tp == nil {
		tp = noop.NewTracerProvider()
	}
	return &Consumer{
		db: db, sub: sub, cfg: cfg, handler: handle, metrics: m,
		logger: logger.Named("inbox").With(zap.String("consumer", cfg.Name)),
		tracer: tp.Tracer("github.com/slipwayhq/slipway/platform/inbox"),
	}, nil
}

// Run consumes until ctx ends, then waits for the handlers that are running and
// returns nil. A database or a broker that is away is waited for. It returns an
// error for what waiting does not mend: tables that are missing, a mode that is
// not the one of before, a subscription that the broker refuses. Any number of
// replicas may run at once.
func (c *Consumer) Run(ctx context.Context) error {
	if err := c.register(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	c.maintain(ctx)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		err := c.sub.Subscribe(ctx, c.cfg.subscription(), func(work context.Context, d broker.Delivery) broker.Verdict {
			return c.receive(work, ctx.Done(), d.Message)
		})
		if err != nil {
			return fmt.Errorf("subscribe to %v: %w", c.cfg.Subjects, err)
		}
		if ctx.Err() == nil {
			return errors.New("subscription ended by itself")
		}
		return nil
	})
	group.Go(func() error { return every(ctx, c.cfg.MaintenanceInterval, c.maintain) })
	group.Go(func() error { return every(ctx, c.cfg.Poll, c.pickUp) })
	return group.Wait()
}

// every calls do in turns until ctx ends.
func every(ctx context.Context, interval time.Duration, do func(context.Context)) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			do(ctx)
		}
	}
}

// outagePause is for how long a worker holds a message that the database has no
// answer for, so that the broker's whole stream is not handed out and back.
const outagePause = time.Second

// receive decides on one delivery. stop is closed when Run is to end.
func (c *Consumer) receive(ctx context.Context, stop <-chan struct{}, m broker.Message) broker.Verdict {
	l := c.cfg.letter(m)
	ctx, span := c.startSpan(ctx, m)
	defer span.End()
	done, err := c.settle(ctx, l)
	if done.result == "" {
		c.log(ctx, m).Warn("cannot reach a decision on message", zap.Error(err))
		span.RecordError(err)
		timer := time.NewTimer(min(outagePause, c.cfg.MaxBackoff))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-stop:
		}
		return broker.Nack(0)
	}
	c.report(ctx, l, done.result, err)
	if done.result == retried {
		return broker.Nack(done.delay)
	}
	if done.next {
		c.drain(ctx, l.Key)
	}
	return broker.Ack()
}

// decision is what has become of a delivery. Without a result nothing is known but
// that the database is of no help now.
type decision struct {
	result result
	// delay is that of a retried one.
	delay time.Duration
	// next tells that an event that waited for this one may be applied.
	next bool
}

// settle brings the message to where it is safe to acknowledge it, or says after
// what delay to try again. The error beside a result is the handler's.
func (c *Consumer) settle(ctx context.Context, l letter) (decision, error) {
	if l.malformed != nil {
		return c.bury(ctx, l, failure{class: classMalformed, cause: l.malformed})
	}
	done, err := c.apply(ctx, l)
	var blamed *handlerError
	switch {
	case err == nil:
		return done, nil
	case errors.As(err, &blamed) && isPermanent(err):
		return c.bury(ctx, l, failure{class: classPermanent, cause: err, attempts: 1})
	case errors.As(err, &blamed):
		return c.failed(ctx, l, err)
	case errors.Is(err, ErrTooOld):
		return c.bury(ctx, l, failure{class: classTooOld, cause: err})
	default:
		return decision{}, err
	}
}

// apply runs the handler if it is the message's turn, all in one transaction.
func (c *Consumer) apply(ctx context.Context, l letter) (decision, error) {
	var done decision
	err := postgres.InTx(ctx, c.db, readCommitted, func(tx pgx.Tx) (err error) {
		if c.cfg.Mode == ByVersion {
			done, err = c.applyInOrder(ctx, tx, l)
			return err
		}
		fresh, err := Once(ctx, tx, c.cfg.Name, l.id, func() error { return c.run(ctx, tx, l.Message) })
		if done.result = duplicate; fresh {
			done.result = applied
		}
		return err
	})
	return done, blameCommit(err)
}

func (c *Consumer) applyInOrder(ctx context.Context, tx pgx.Tx, l letter) (decision, error) {
	p, err := advance(ctx, tx, c.position(l), c.cfg.JoinLate)
	if err != nil {
		return decision{}, err
	}
	switch p.state {
	case Applied:
		return decision{result: applied, next: p.next}, c.run(ctx, tx, l.Message)
	case Early:
		return decision{result: early}, c.keepEarly(ctx, tx, l)
	default:
		return decision{result: duplicate}, nil
	}
}

func (c *Consumer) position(l letter) position { return position{c.cfg.Name, l.Key, l.version} }

// run calls the handler. Its error is a *handlerError unless the database is to
// blame.
func (c *Consumer) run(ctx context.Context, tx pgx.Tx, m broker.Message) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.HandlerTimeout)
	defer cancel()
	start := time.Now()
	err := recovered(func() error { return c.handler(ctx, tx, m) })
	c.metrics.handle.Observe(time.Since(start).Seconds())
	return blame(ctx, tx, err)
}
