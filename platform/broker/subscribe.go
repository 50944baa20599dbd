package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// Subscriber hands messages of a broker to handlers.
type Subscriber interface {
	// Subscribe runs handle for the messages of the subscription until ctx ends.
	// Then it takes no new ones, waits for the handlers that are running, gives
	// back what it has not handed over, and returns nil. It returns an error only
	// for what waiting does not mend, a subscription that the broker refuses; a
	// broker that cannot be reached is waited for.
	//
	// Handlers of different keys run side by side, up to Concurrency. Messages of
	// one key are handed over one at a time, in the order in which they are
	// stored: the next one when the one before it was acknowledged or terminated.
	// This holds over all processes that share the subscription's name, also when
	// one of them dies; then what it had in hand is handed over again.
	//
	// The context of a handler does not end with ctx.
	Subscribe(ctx context.Context, sub Subscription, handle Handler) error
}

// Subscription is what to consume, and how.
type Subscription struct {
	// Name is that of the consumer. Processes with the same name share the
	// messages; each name gets all of them, the first time from the oldest that
	// the broker has. It holds letters, digits, "-" and "_".
	Name string
	// Subjects are exact, or end in ".>" for everything below: "order.>".
	Subjects []string
	// Concurrency is how many handlers run at once. 0 means 16.
	Concurrency int
	// AckWait is how long a handler may take before the broker takes its process
	// for dead and gives the message to another. Drivers extend it for as long as
	// the handler runs where the broker can. 0 means 30 seconds.
	AckWait time.Duration
}

// SetDefaults fills the fields that are zero.
func (s *Subscription) SetDefaults() {
	s.Concurrency = cmp.Or(s.Concurrency, 16)
	s.AckWait = cmp.Or(s.AckWait, 30*time.Second)
}

// Validate names every field that is wrong.
func (s Subscription) Validate() error {
	var errs []error
	if !validName(s.Name) {
		errs = append(errs, fmt.Errorf("name: %q must be letters, digits, - and _", s.Name))
	}
	if len(s.Subjects) == 0 {
		errs = append(errs, errors.New("subjects: none given"))
	}
	for _, subject := range s.Subjects {
		if !validPattern(subject) {
			errs = append(errs, fmt.Errorf(`subjects: %q is neither a subject nor one that ends in ".>"`, subject))
		}
	}
	if s.Concurrency < 1 {
		errs = append(errs, fmt.Errorf("concurrency: %d is not positive", s.Concurrency))
	}
	if s.AckWait < 100*time.Millisecond {
		errs = append(errs, fmt.Errorf("ack wait: %s is shorter than 100ms", s.AckWait))
	}
	return errors.Join(errs...)
}

// Delivery is a message that was handed over.
type Delivery struct {
	Message
	// Attempt counts how often this message was handed over, from 1, as far as the
	// driver knows: it may begin anew when a process dies.
	Attempt int
}

// Handler handles one message and returns what is to become of it.
type Handler func(ctx context.Context, d Delivery) Verdict

// Verdict is what is to become of a message: Ack, Nack or Terminate.
type Verdict struct {
	kind   verdictKind
	delay  time.Duration
	reason string
}

type verdictKind int8

const (
	nack verdictKind = iota
	ack
	terminate
)

// Ack settles the message: it is done.
func Ack() Verdict { return Verdict{kind: ack} }

// Nack has the message handed over again after the delay. The later ones of its
// key wait for it. It is the zero Verdict, with no delay.
func Nack(delay time.Duration) Verdict { return Verdict{delay: delay} }

// Terminate settles the message without success: it is not handed over again.
func Terminate(reason string) Verdict { return Verdict{kind: terminate, reason: reason} }

// Settled tells whether the message is done, by Ack or Terminate.
func (v Verdict) Settled() bool { return v.kind != nack }

// Terminated returns the reason of Terminate, and whether it was that.
func (v Verdict) Terminated() (reason string, ok bool) { return v.reason, v.kind == terminate }

// Delay returns that of Nack.
func (v Verdict) Delay() time.Duration { return v.delay }
