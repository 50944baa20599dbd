package domain

import (
	"errors"
	"fmt"
	"math"
)

// Money is an amount in the minor unit of a currency, for example cents. It is never negative and
// never a floating-point number.
type Money struct {
	// Currency is an ISO 4217 code.
	Currency string
	// Minor is the amount in the currency's minor unit.
	Minor int64
}

// Errors of calculating with money.
var (
	ErrCurrencyMismatch = errors.New("amounts have different currencies")
	ErrAmountOverflow   = errors.New("amount is too large")
)

// Add returns the sum of two amounts in one currency.
func (m Money) Add(other Money) (Money, error) {
	if m.Currency != other.Currency {
		return Money{}, fmt.Errorf("add %s to %s: %w", other.Currency, m.Currency, ErrCurrencyMismatch)
	}
	if other.Minor > math.MaxInt64-m.Minor {
		return Money{}, ErrAmountOverflow
	}
	return Money{Currency: m.Currency, Minor: m.Minor + other.Minor}, nil
}

// Times returns n times the amount.
func (m Money) Times(n int32) (Money, error) {
	if n < 0 || n > 0 && m.Minor > math.MaxInt64/int64(n) {
		return Money{}, ErrAmountOverflow
	}
	return Money{Currency: m.Currency, Minor: m.Minor * int64(n)}, nil
}
