package domain

import "fmt"

// MaxAmount is the largest amount of a payment, in minor units.
const MaxAmount = 1_000_000_000_000

// Money is an amount in the minor unit of a currency, for example cents. It is never a
// floating-point number.
type Money struct {
	// Currency is an ISO 4217 code.
	Currency string
	// Minor is the amount in the currency's minor unit.
	Minor int64
}

// Validate fails with [ErrInvalidAmount] unless the amount can be paid.
func (m Money) Validate() error {
	if len(m.Currency) != 3 {
		return fmt.Errorf("%w: %q is not a currency", ErrInvalidAmount, m.Currency)
	}
	for _, letter := range m.Currency {
		if letter < 'A' || letter > 'Z' {
			return fmt.Errorf("%w: %q is not a currency", ErrInvalidAmount, m.Currency)
		}
	}
	if m.Minor < 1 || m.Minor > MaxAmount {
		return fmt.Errorf("%w: %d is not between 1 and %d", ErrInvalidAmount, m.Minor, int64(MaxAmount))
	}
	return nil
}
