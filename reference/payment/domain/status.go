package domain

import "slices"

// Status is where a payment is in its life.
type Status string

// The states of a payment. Those that end in -ING wait for the provider.
const (
	Authorizing Status = "AUTHORIZING"
	Authorized  Status = "AUTHORIZED"
	Declined    Status = "DECLINED"
	Voiding     Status = "VOIDING"
	Voided      Status = "VOIDED"
	Capturing   Status = "CAPTURING"
	Captured    Status = "CAPTURED"
	Refunding   Status = "REFUNDING"
	Refunded    Status = "REFUNDED"
)

// Statuses lists all states.
func Statuses() []Status {
	return []Status{Authorizing, Authorized, Declined, Voiding, Voided, Capturing, Captured, Refunding, Refunded}
}

// transitions lists every change of state that is allowed. A state without an entry is final. What
// leads out of Voided, and from Voiding to Refunding, are answers that come late.
var transitions = map[Status][]Status{
	Authorizing: {Authorized, Declined, Voiding},
	Authorized:  {Voiding, Capturing},
	Voiding:     {Voided, Refunding, Refunded},
	Voided:      {Voiding, Refunding, Refunded},
	Capturing:   {Captured},
	Captured:    {Refunding},
	Refunding:   {Refunded},
}

// CanBecome tells whether next may follow.
func (s Status) CanBecome(next Status) bool { return slices.Contains(transitions[s], next) }

// Waiting tells whether the provider's answer is outstanding.
func (s Status) Waiting() bool {
	return s == Authorizing || s == Voiding || s == Capturing || s == Refunding
}
