package domain

import (
	"fmt"
	"strings"
	"time"
)

// Stock is how much of an article there is.
type Stock struct {
	SKU string
	// OnHand are the pieces in the warehouse, reserved ones included; Committed are those that have
	// left it for customers.
	OnHand, Reserved, Committed int64
	// Version grows by one with each change; 0 for an article that is not known yet.
	Version   int64
	UpdatedAt time.Time
}

// Movement is what changes about the stock of an article. Nothing but deliveries and counts changes
// the sum of OnHand and Committed.
type Movement struct {
	SKU                         string
	OnHand, Reserved, Committed int64
}

// ShortageError is an [ErrOutOfStock] that names the articles.
type ShortageError struct{ SKUs []string }

// Error implements error.
func (e *ShortageError) Error() string {
	return fmt.Sprintf("%v: %s", ErrOutOfStock, strings.Join(e.SKUs, ", "))
}

// Unwrap returns [ErrOutOfStock].
func (e *ShortageError) Unwrap() error { return ErrOutOfStock }

// Move applies a movement. It fails with a [ShortageError] when more were promised than there is.
func (s Stock) Move(m Movement, now time.Time) (Stock, error) {
	moved := s
	moved.OnHand += m.OnHand
	moved.Reserved += m.Reserved
	moved.Committed += m.Committed
	if moved.Reserved > moved.OnHand {
		return s, &ShortageError{SKUs: []string{s.SKU}}
	}
	moved.Version++
	moved.UpdatedAt = now
	return moved, nil
}

// Set sets how many pieces are in the warehouse. It fails with [ErrStockReserved] when more are
// promised, and with [ErrVersionConflict] unless the stock has the expected version; 0 accepts any.
// Setting what is known changes nothing.
func (s Stock) Set(onHand, expectedVersion int64, now time.Time) (Stock, error) {
	switch {
	case expectedVersion != 0 && expectedVersion != s.Version:
		return s, fmt.Errorf("%w: %s has version %d, not %d", ErrVersionConflict, s.SKU, s.Version, expectedVersion)
	case onHand < s.Reserved:
		return s, fmt.Errorf("%w: %d of %s", ErrStockReserved, s.Reserved, s.SKU)
	case onHand == s.OnHand && s.Version > 0:
		return s, nil
	}
	return s.Move(Movement{SKU: s.SKU, OnHand: onHand - s.OnHand}, now)
}
