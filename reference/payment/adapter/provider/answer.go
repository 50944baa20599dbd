package provider

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/slipwayhq/slipway/reference/payment/domain"
)

// body is what a call carries.
type body struct {
	Amount    *amount `json:"amount,omitempty"`
	CardToken string  `json:"card_token,omitempty"`
}

type amount struct {
	Currency string `json:"currency"`
	Minor    int64  `json:"minor"`
}

func amountOf(m domain.Money) *amount { return &amount{Currency: m.Currency, Minor: m.Minor} }

// charge is what an answer carries.
type charge struct {
	State  string `json:"state"`
	Reason string `json:"reason"`
}

var charges = map[string]domain.Charge{
	"none":       domain.NoCharge,
	"authorized": domain.ChargeHeld,
	"declined":   domain.ChargeDeclined,
	"voided":     domain.ChargeVoided,
	"captured":   domain.ChargeCaptured,
	"refunded":   domain.ChargeRefunded,
}

// maxReason bounds what is kept of a reason, in bytes.
const maxReason = 100

// statusError is an answer that says nothing about the charge.
type statusError struct{ status int }

func (e *statusError) Error() string {
	return fmt.Sprintf("payment provider answers %d %s", e.status, http.StatusText(e.status))
}

// read makes an answer of a response. Of a conflict the charge counts: it is in a state that does not
// allow the call. That nothing is known is said as well: a 404 alone may come from anybody on the way.
// Texts of other responses are nobody's to show or to log.
func read(status int, text []byte) (domain.Answer, error) {
	switch status {
	case http.StatusOK, http.StatusConflict, http.StatusNotFound:
	default:
		return domain.Answer{}, &statusError{status}
	}
	var c charge
	if err := json.Unmarshal(text, &c); err != nil {
		return domain.Answer{}, fmt.Errorf("read answer of payment provider: %w", err)
	}
	known, ok := charges[c.State]
	if !ok {
		return domain.Answer{}, fmt.Errorf("payment provider answers with the unknown state %.20q", c.State)
	}
	return domain.Answer{Charge: known, Reason: tidy(c.Reason)}, nil
}

// tidy makes any text one that may be stored and shown.
func tidy(reason string) string {
	if len(reason) > maxReason {
		reason = reason[:maxReason]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(reason, ""))
}
