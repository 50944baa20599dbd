package domain

import "slices"

// Status is where an order is in its life.
type Status string

// The states of an order.
const (
	Pending   Status = "PENDING"
	Confirmed Status = "CONFIRMED"
	Cancelled Status = "CANCELLED"
)

// transitions lists every change of state that is allowed. A state without an entry is final.
var transitions = map[Status][]Status{
	Pending: {Confirmed, Cancelled},
}

// Final tells whether nothing can follow.
func (s Status) Final() bool { return len(transitions[s]) == 0 }

// CanBecome tells whether next may follow.
func (s Status) CanBecome(next Status) bool { return slices.Contains(transitions[s], next) }
