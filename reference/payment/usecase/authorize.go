package usecase

import (
	"context"
	"time"

	"github.com/slipwayhq/slipway/reference/payment/domain"
)

// Authorize has the provider hold what an order costs.
type Authorize struct {
	Payments Opener
	Teller   *Teller
	// NewID draws the id of a payment, a UUIDv7.
	NewID func() string
	Now   func() time.Time
}

// AuthorizeCommand is what a caller asks for.
type AuthorizeCommand struct {
	Key     string
	OrderID string
	Amount  domain.Money
	Card    domain.CardToken
}

// Execute holds the amount. Repeated with the same key and content it returns what became of the first
// request; one that has no answer yet is looked up, and asked for again only if the provider does not
// know it: nobody but the caller has the card. It fails with domain.ErrDeclined, with domain.ErrVoided
// when the key was undone, with domain.ErrIdempotencyMismatch for another content, and with an error of
// the provider when the outcome is unknown.
func (a *Authorize) Execute(ctx context.Context, cmd AuthorizeCommand) (domain.Snapshot, error) {
	p, err := domain.Open(domain.NewPayment{ID: a.NewID(), Key: cmd.Key, OrderID: cmd.OrderID, Amount: cmd.Amount}, a.Now())
	if err != nil {
		return domain.Snapshot{}, err
	}
	s, fresh, err := a.Payments.Open(ctx, p)
	if err != nil {
		return domain.Snapshot{}, err
	}
	if err := domain.Rehydrate(s).RequireSame(cmd.OrderID, cmd.Amount); err != nil {
		return domain.Snapshot{}, err
	}
	if !fresh && s.Status == domain.Authorizing {
		if s, err = a.Teller.lookUp(ctx, s); err != nil {
			return domain.Snapshot{}, err
		}
	}
	if s.Status == domain.Authorizing {
		if s, err = a.Teller.authorize(ctx, s, cmd.Card); err != nil {
			return domain.Snapshot{}, err
		}
	}
	return s, s.Outcome()
}
