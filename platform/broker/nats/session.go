package nats

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/slipwayhq/slipway/platform/broker"
)

// errTaken ends a session: messages have gone to another process, or got lost on
// their way here, so that what comes next may be later than what is not settled.
var errTaken = errors.New("messages are in other hands")

// session is a stretch of consuming. The server gives all messages to one session,
// which it knows by a pin, until that has not asked for more for a while. The order
// holds because a session that takes over begins with the first message that is not
// settled, ends as soon as it does not see every delivery, which the server numbers,
// and begins no handler without knowing that the pin is its own.
type session struct {
	conn       *Conn
	stream     string
	consumer   jetstream.Consumer
	iter       jetstream.MessagesContext
	takeover   time.Duration
	reconnects uint64
	end        context.CancelCauseFunc
	d          *dispatcher

	mu   sync.Mutex
	pin  string // empty until the first message
	last uint64 // delivery
}

// run consumes until ctx ends or something is wrong. It calls begun when messages can come.
func (s *Subscriber) run(ctx context.Context, sub broker.Subscription, begun func(), handle broker.Handler) error {
	reconnects := s.conn.nc.Stats().Reconnects
	stream, consumer, err := s.consumer(ctx, sub)
	if err != nil {
		return err
	}
	if abandoned(consumer.CachedInfo()) {
		if _, err := s.conn.js.ResetConsumer(ctx, stream, sub.Name); err != nil {
			return fmt.Errorf("begin with what is not settled: %w", err)
		}
	}
	iter, err := consumer.Messages(jetstream.PullPriorityGroup(group), jetstream.PullMaxMessages(4*sub.Concurrency),
		jetstream.PullExpiry(s.cfg.Takeover/2), jetstream.PullHeartbeat(s.cfg.Takeover/4), jetstream.WithMessagesErrOnMissingHeartbeat(false))
	if err != nil {
		return fmt.Errorf("pull messages: %w", err)
	}
	begun()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	n := &session{
		conn: s.conn, stream: stream, consumer: consumer, iter: iter, takeover: s.cfg.Takeover, reconnects: reconnects,
		end: end, d: newDispatcher(ctx, sub, handle),
	}
	n.consume(ctx)
	return context.Cause(ctx)
}

// consume returns when the handlers have ended, and asks for messages until then, so
// that no other process gets what they have in hand.
func (n *session) consume(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { n.watch(ctx) })
	wg.Go(func() {
		<-ctx.Done()
		n.d.drain()
		n.iter.Stop()
	})
	for {
		msg, err := n.iter.Next()
		if err != nil {
			n.end(fmt.Errorf("receive message: %w", err))
			break
		}
		if ctx.Err() != nil {
			continue
		}
		if err := n.accept(ctx, msg); err != nil {
			n.end(err)
		}
	}
	wg.Wait()
	n.letGo(context.WithoutCancel(ctx))
}

// accept hands a message to the dispatcher if none is missing before it.
func (n *session) accept(ctx context.Context, msg jetstream.Msg) error {
	meta, err := msg.Metadata()
	if err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	pin := msg.Headers().Get(jetstreamPin)
	if n.last == 0 {
		asked := time.Now()
		info, err := n.consumer.Info(ctx)
		if err != nil {
			return fmt.Errorf("ask for state of consumer: %w", err)
		}
		n.mu.Lock()
		n.pin, n.last = pin, info.AckFloor.Consumer
		n.mu.Unlock()
		n.judge(info, asked)
	}
	if pin != n.pin {
		return fmt.Errorf("%w: the server took this process for dead", errTaken)
	}
	if meta.Sequence.Consumer != n.last+1 {
		return fmt.Errorf("%w: delivery %d follows %d", errTaken, meta.Sequence.Consumer, n.last)
	}
	n.last = meta.Sequence.Consumer
	n.d.take(msg, meta) //nolint:contextcheck // handlers do not end with the session
	return nil
}

// watch asks again and again whose the messages are.
func (n *session) watch(ctx context.Context) {
	beat := time.NewTicker(n.takeover / 8)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
		}
		if n.conn.nc.Stats().Reconnects != n.reconnects {
			n.end(fmt.Errorf("%w: the connection is another", errTaken))
			return
		}
		asked := time.Now()
		info, err := n.consumer.Info(ctx)
		switch {
		case err == nil:
			n.judge(info, asked)
		case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
			n.end(err)
		}
	}
}

// judge draws the conclusions from an answer.
func (n *session) judge(info *jetstream.ConsumerInfo, asked time.Time) {
	n.mu.Lock()
	pin := n.pin
	n.mu.Unlock()
	switch {
	case pin == "" && abandoned(info):
		n.end(fmt.Errorf("%w, which are gone", errTaken))
	case pin == "":
	case pinned(info) != pin:
		n.end(fmt.Errorf("%w: the server took this process for dead", errTaken))
	default: // the pin was last renewed half of takeover ago, if not later
		n.d.extend(asked.Add(pinTTL(n.takeover) - n.takeover/2))
	}
}

// letGo lets another process take over at once.
func (n *session) letGo(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if n.pin == "" {
		return
	}
	if info, err := n.consumer.Info(ctx); err != nil || pinned(info) != n.pin {
		return
	}
	if stream, err := n.conn.js.Stream(ctx, n.stream); err == nil {
		_ = stream.UnpinConsumer(ctx, n.consumer.CachedInfo().Name, group)
	}
}

// pinTTL leaves time to notice that the pin is free.
func pinTTL(takeover time.Duration) time.Duration { return takeover * 7 / 8 }

// pinned returns the pin of the session that gets the messages.
func pinned(info *jetstream.ConsumerInfo) string {
	for _, g := range info.PriorityGroups {
		if g.Group == group {
			return g.PinnedClientID
		}
	}
	return ""
}

// abandoned tells whether messages are in the hands of nobody: they need not wait
// for the end of their AckWait.
func abandoned(info *jetstream.ConsumerInfo) bool {
	return info != nil && info.NumAckPending > 0 && pinned(info) == ""
}
