package usecase_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/slipwayhq/slipway/reference/payment/domain"
	"github.com/slipwayhq/slipway/reference/payment/usecase"
)

var errCrash = errors.New("nobody knows whether that was done")

// luck decides what goes wrong, in turns.
type luck struct {
	mu    sync.Mutex
	draws []int
	next  int
	good  bool // nothing goes wrong any more, as when the draws are used up
}

func (l *luck) draw() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.good || l.next == len(l.draws) {
		return 0
	}
	l.next++
	return l.draws[l.next-1]
}

// memory is a store. With bad luck a write is lost, or done and the answer lost.
type memory struct {
	luck *luck
	rest time.Duration

	mu     sync.Mutex
	all    map[string]*entry
	undone map[string]bool
}

type entry struct {
	domain.Snapshot
	lookAt, changed time.Time
	pause           time.Duration
}

func (m *memory) commit(apply func()) error {
	switch m.luck.draw() {
	case 1:
		return errCrash
	case 2:
		apply()
		return errCrash
	default:
		apply()
		return nil
	}
}

func (m *memory) find(match func(*entry) bool) *entry {
	for _, e := range m.all {
		if match(e) {
			return e
		}
	}
	return nil
}

func (m *memory) Open(_ context.Context, p *domain.Payment) (domain.Snapshot, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := p.Snapshot()
	if m.undone[s.Key] {
		return domain.Snapshot{}, false, domain.ErrVoided
	}
	if e := m.find(func(e *entry) bool { return e.Key == s.Key }); e != nil {
		return e.Snapshot, false, nil
	}
	if m.find(func(e *entry) bool { return e.OrderID == s.OrderID }) != nil {
		return domain.Snapshot{}, false, domain.ErrOrderHasPayment
	}
	return s, true, m.commit(func() { m.all[s.ID] = &entry{Snapshot: s, lookAt: time.Now().Add(m.rest), changed: time.Now()} })
}

func (m *memory) Undo(_ context.Context, key string, change func(*domain.Payment) error) (domain.Snapshot, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.find(func(e *entry) bool { return e.Key == key })
	if e == nil {
		return domain.Snapshot{}, false, m.commit(func() { m.undone[key] = true })
	}
	s, err := m.change(e, change, func() { m.undone[key] = true })
	return s, true, err
}

func (m *memory) Update(_ context.Context, id string, change func(*domain.Payment) error) (domain.Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.change(m.all[id], change, func() {})
}

func (m *memory) UpdateOfOrder(_ context.Context, orderID string, change func(*domain.Payment) error) (domain.Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.change(m.find(func(e *entry) bool { return e.OrderID == orderID }), change, func() {})
}

func (m *memory) change(e *entry, change func(*domain.Payment) error, with func()) (domain.Snapshot, error) {
	if e == nil {
		return domain.Snapshot{}, domain.ErrNotFound
	}
	p := domain.Rehydrate(e.Snapshot)
	if err := change(p); err != nil {
		return domain.Snapshot{}, err
	}
	s := p.Snapshot()
	return s, m.commit(func() {
		with()
		if s.Status != e.Status {
			e.lookAt, e.pause = time.Now().Add(m.rest), 0
		}
		if s.Version != e.Version {
			e.changed = time.Now()
		}
		e.Snapshot = s
	})
}

func (m *memory) Claim(_ context.Context, c usecase.Claim) (claimed []usecase.Claimed, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.all {
		if e.Unsettled() && !e.lookAt.After(time.Now()) && len(claimed) < c.Limit {
			e.pause = min(max(c.Pause, 2*e.pause), c.LongestPause)
			e.lookAt = time.Now().Add(e.pause)
			claimed = append(claimed, usecase.Claimed{Snapshot: e.Snapshot, Watched: e.InDoubt && time.Since(e.changed) > c.Watch})
		}
	}
	return claimed, nil
}

// bank is a provider. With bad luck a call is lost, done without an answer, or done later.
type bank struct {
	luck *luck

	mu      sync.Mutex
	charges map[string]domain.Answer
	effects []string // each as "captured p-1"
	coming  []func()
}

func (b *bank) Authorize(_ context.Context, key string, _ domain.Money, card domain.CardToken) (domain.Answer, error) {
	return b.call(key, func(domain.Answer) domain.Answer {
		if card == "tok_declined" {
			return domain.Answer{Charge: domain.ChargeDeclined, Reason: "declined"}
		}
		return domain.Answer{Charge: domain.ChargeHeld}
	}, domain.NoCharge)
}

func (b *bank) Lookup(_ context.Context, key string) (domain.Answer, error) {
	return b.call(key, func(a domain.Answer) domain.Answer { return a })
}

func (b *bank) Void(_ context.Context, key string) (domain.Answer, error) {
	return b.call(key, func(domain.Answer) domain.Answer { return domain.Answer{Charge: domain.ChargeVoided} }, domain.ChargeHeld)
}

func (b *bank) Capture(_ context.Context, key string, _ domain.Money) (domain.Answer, error) {
	return b.call(key, func(domain.Answer) domain.Answer { return domain.Answer{Charge: domain.ChargeCaptured} }, domain.ChargeHeld)
}

func (b *bank) Refund(_ context.Context, key string, _ domain.Money) (domain.Answer, error) {
	return b.call(key, func(domain.Answer) domain.Answer { return domain.Answer{Charge: domain.ChargeRefunded} }, domain.ChargeCaptured)
}

// call moves the charge of key if it is in one of the states from, and answers with it.
func (b *bank) call(key string, move func(domain.Answer) domain.Answer, from ...domain.Charge) (domain.Answer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	apply := func() {
		if slices.Contains(from, b.of(key).Charge) {
			b.charges[key] = move(b.of(key))
			b.effects = append(b.effects, string(b.charges[key].Charge)+" "+key)
		}
	}
	switch b.luck.draw() {
	case 1:
		return domain.Answer{}, errCrash
	case 2:
		apply()
		return domain.Answer{}, errCrash
	case 3:
		b.coming = append(b.coming, apply)
		return domain.Answer{}, errCrash
	}
	apply()
	return b.of(key), nil
}

func (b *bank) of(key string) domain.Answer {
	if a, ok := b.charges[key]; ok {
		return a
	}
	return domain.Answer{Charge: domain.NoCharge}
}

// deliver does the oldest of what is to be done later.
func (b *bank) deliver() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.coming) == 0 {
		return false
	}
	b.coming[0]()
	b.coming = b.coming[1:]
	return true
}

// world is the service between a store and a bank that may have bad luck.
type world struct {
	luck     *luck
	payments *memory
	bank     *bank
	teller   *usecase.Teller
	ids      int
}

func newWorld(draws ...int) *world {
	l := &luck{draws: draws}
	w := &world{
		luck:     l,
		payments: &memory{luck: l, rest: time.Minute, all: map[string]*entry{}, undone: map[string]bool{}},
		bank:     &bank{luck: l, charges: map[string]domain.Answer{}},
	}
	w.teller = &usecase.Teller{Payments: w.payments, Provider: w.bank, Now: time.Now}
	return w
}

func (w *world) authorize(ctx context.Context, card domain.CardToken) (domain.Snapshot, error) {
	a := &usecase.Authorize{Payments: w.payments, Teller: w.teller, Now: time.Now, NewID: func() string {
		w.ids++
		return "p-" + string(rune('0'+w.ids%10)) + time.Now().Format("150405.000")
	}}
	return a.Execute(ctx, usecase.AuthorizeCommand{Key: "saga/pay", OrderID: "o-1", Amount: price, Card: card})
}

func (w *world) void(ctx context.Context) (domain.Snapshot, bool, error) {
	v := &usecase.Void{Payments: w.payments, Teller: w.teller, Now: time.Now}
	return v.Execute(ctx, usecase.VoidCommand{Key: "saga/pay", OrderID: "o-1"})
}

func (w *world) capture(ctx context.Context) (domain.Snapshot, error) {
	return (&usecase.Capture{Payments: w.payments, Teller: w.teller, Now: time.Now}).Execute(ctx, "o-1")
}

func (w *world) refund(ctx context.Context) (domain.Snapshot, error) {
	return (&usecase.Refund{Payments: w.payments, Teller: w.teller, Now: time.Now}).Execute(ctx, "o-1", "broken")
}

// payment returns the only payment, and what the bank has of it.
func (w *world) payment() (s domain.Snapshot, found bool, charge domain.Charge) {
	w.payments.mu.Lock()
	defer w.payments.mu.Unlock()
	w.bank.mu.Lock()
	defer w.bank.mu.Unlock()
	for _, e := range w.payments.all {
		return e.Snapshot, true, w.bank.of(e.ID).Charge
	}
	return domain.Snapshot{}, false, domain.NoCharge
}
