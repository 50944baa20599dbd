package domain

import (
	"fmt"
	"time"
)

// Charge is what the provider says it has under the id of a payment.
type Charge string

// The answers of a provider. An authorization that was declined, voided or refunded stays so.
const (
	// NoCharge means that the provider knows nothing under the id. Something that is still on its way
	// to it may change that.
	NoCharge       Charge = "NONE"
	ChargeHeld     Charge = "AUTHORIZED"
	ChargeDeclined Charge = "DECLINED"
	ChargeVoided   Charge = "VOIDED"
	ChargeCaptured Charge = "CAPTURED"
	ChargeRefunded Charge = "REFUNDED"
)

// Charges lists all answers.
func Charges() []Charge {
	return []Charge{NoCharge, ChargeHeld, ChargeDeclined, ChargeVoided, ChargeCaptured, ChargeRefunded}
}

// Answer is an answer of the provider. The zero Answer is none: nobody knows what became of the question.
type Answer struct {
	Charge Charge
	// Reason says why the provider declined.
	Reason string
}

// LateRefund is the reason of a refund that nobody asked for: the amount was transferred although the
// payment had been voided.
const LateRefund = "captured after the payment was voided"

// Learn applies an answer of the provider. Answers may be late: one that says less than what is known
// changes nothing. A success that comes after the payment was voided leads back to Voiding, or to
// Refunding when the amount was transferred. Learn fails with [ErrContradiction], and changes
// nothing, when the answer cannot be. That there is no answer matters to a payment in doubt: the time
// for which it is watched begins again.
func (p *Payment) Learn(a Answer, now time.Time) error {
	if a == (Answer{}) {
		if p.state.InDoubt {
			p.touch(now)
		}
		return nil
	}
	switch p.state.Status {
	case Authorizing:
		return p.learnAuthorizing(a, now)
	case Voiding, Voided:
		return p.learnVoid(a, now)
	case Capturing:
		return p.await(a, ChargeCaptured, Captured, now)
	case Refunding:
		return p.await(a, ChargeRefunded, Refunded, now)
	case Authorized:
		return p.expect(a, ChargeHeld)
	case Captured:
		return p.expect(a, ChargeHeld, ChargeCaptured)
	case Declined:
		return p.expect(a, ChargeDeclined)
	default: // Refunded: whatever was answered before it may arrive after it.
		return p.expect(a, ChargeHeld, ChargeCaptured, ChargeRefunded, ChargeVoided, NoCharge)
	}
}

// Trust ends the doubt of a voided payment that was watched for long enough. In any other state the
// doubt stays.
func (p *Payment) Trust(now time.Time) {
	if p.state.InDoubt && p.state.Status == Voided {
		p.state.InDoubt = false
		p.touch(now)
	}
}

func (p *Payment) learnAuthorizing(a Answer, now time.Time) error {
	switch a.Charge {
	case NoCharge:
		return nil
	case ChargeHeld:
		return p.become(Authorized, now)
	case ChargeDeclined:
		p.state.DeclineReason = a.Reason
		return p.become(Declined, now)
	default:
		return p.contradiction(a)
	}
}

// learnVoid ends the doubt with every answer that says what became of the authorization for good.
func (p *Payment) learnVoid(a Answer, now time.Time) error {
	before := p.state
	switch a.Charge {
	case NoCharge:
		// The authorization may be on its way, or the provider may remember it.
		p.state.InDoubt = p.state.InDoubt || p.state.Status == Voiding
		return p.reach(Voided, before, now)
	case ChargeHeld:
		if p.state.Status == Voiding || p.state.InDoubt {
			return p.reach(Voiding, before, now)
		}
		return nil // An answer from before the provider confirmed the void.
	case ChargeDeclined, ChargeVoided:
		p.state.InDoubt = false
		return p.reach(Voided, before, now)
	case ChargeCaptured:
		p.state.InDoubt, p.state.RefundReason = false, LateRefund
		return p.reach(Refunding, before, now)
	case ChargeRefunded:
		p.state.InDoubt = false
		return p.reach(Refunded, before, now)
	default:
		return p.contradiction(a)
	}
}

// reach moves to next, or stays there; it counts as a change only if something differs from before.
func (p *Payment) reach(next Status, before Snapshot, now time.Time) error {
	if p.state.Status != next {
		return p.become(next, now)
	}
	if p.state != before {
		p.touch(now)
	}
	return nil
}

// await moves to next with the answer that says so.
func (p *Payment) await(a Answer, done Charge, next Status, now time.Time) error {
	if a.Charge == done {
		return p.become(next, now)
	}
	if done == ChargeRefunded {
		return p.expect(a, ChargeHeld, ChargeCaptured)
	}
	return p.expect(a, ChargeHeld)
}

// expect accepts answers that say nothing new.
func (p *Payment) expect(a Answer, known ...Charge) error {
	for _, k := range known {
		if a.Charge == k {
			return nil
		}
	}
	return p.contradiction(a)
}

func (p *Payment) contradiction(a Answer) error {
	return fmt.Errorf("%w: payment %s is %s here and %s there", ErrContradiction, p.state.ID, p.state.Status, a.Charge)
}
