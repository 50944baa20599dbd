package usecase

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/slipwayhq/slipway/reference/payment/domain"
)

const (
	// attempts bounds how often a change can lose against other changes of the payment.
	attempts = 5
	// noteTimeout bounds the noting of an answer, which does not end with the caller's context.
	noteTimeout = 5 * time.Second
)

// Teller makes the calls that payments wait for and notes the answers, never in a transaction.
type Teller struct {
	Payments Updater
	Provider Provider
	Now      func() time.Time
}

// Finish calls the provider until the payment waits for nothing that a call without a card can bring
// about. It fails with the error of an unknown outcome, and with domain.ErrPending when the provider
// answers that nothing has changed.
func (t *Teller) Finish(ctx context.Context, s domain.Snapshot) (domain.Snapshot, error) {
	for {
		var answer domain.Answer
		var err error
		switch s.Status {
		case domain.Voiding:
			answer, err = t.Provider.Void(ctx, s.ID)
		case domain.Capturing:
			answer, err = t.Provider.Capture(ctx, s.ID, s.Amount)
		case domain.Refunding:
			answer, err = t.Provider.Refund(ctx, s.ID, s.Amount)
		default:
			return s, nil
		}
		before := s.Status
		if s, err = t.note(ctx, s, answer, err); err != nil {
			return s, err
		}
		if s.Status == before {
			return s, domain.ErrPending
		}
	}
}

// authorize asks for the authorization. A payment that was voided meanwhile is voided at the provider
// as well.
func (t *Teller) authorize(ctx context.Context, s domain.Snapshot, card domain.CardToken) (domain.Snapshot, error) {
	answer, err := t.Provider.Authorize(ctx, s.ID, s.Amount, card)
	if s, err = t.note(ctx, s, answer, err); err != nil || s.Status != domain.Voiding {
		return s, err
	}
	return t.Finish(ctx, s)
}

// lookUp asks what became of the authorization. A provider that knows nothing yet changes nothing:
// the request may be on its way.
func (t *Teller) lookUp(ctx context.Context, s domain.Snapshot) (domain.Snapshot, error) {
	answer, err := t.Provider.Lookup(ctx, s.ID)
	if err == nil && answer.Charge == domain.NoCharge {
		return s, nil
	}
	return t.note(ctx, s, answer, err)
}

// note stores the answer, or that there is none, also when the caller is gone. It returns the payment
// as it is then.
func (t *Teller) note(ctx context.Context, s domain.Snapshot, answer domain.Answer, unknown error) (domain.Snapshot, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTimeout)
	defer cancel()
	if unknown != nil {
		answer = domain.Answer{}
	}
	noted, err := again(func() (domain.Snapshot, error) {
		return t.Payments.Update(ctx, s.ID, func(p *domain.Payment) error { return p.Learn(answer, t.Now()) })
	})
	if err != nil {
		return s, errors.Join(unknown, fmt.Errorf("note answer of the provider: %w", err))
	}
	return noted, unknown
}

// again repeats a change that lost against another one.
func again(change func() (domain.Snapshot, error)) (s domain.Snapshot, err error) {
	for range attempts {
		if s, err = change(); !errors.Is(err, domain.ErrVersionConflict) {
			return s, err
		}
	}
	return s, err
}
