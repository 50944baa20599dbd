// Package rig drives every system of the saga benchmarks in the same way: it has the
// participant whose steps the sagas call, the closed loop that starts sagas, and the
// lines in which a benchmark talks to a system's process. It needs nothing but the
// standard library, so that each system keeps the versions that it was released with.
//
// A saga has three steps, "one", "two" and "three", each one POST to the participant, and
// "one" and "two" are undone by "undo-one" and "undo-two".
package rig

import (
	"context"
	"errors"
)

// Names of the steps, and of what undoes them.
const (
	One     = "one"
	Two     = "two"
	Three   = "three"
	UndoOne = "undo-one"
	UndoTwo = "undo-two"
)

// ErrRejected is in the error of a step that has failed for good.
var ErrRejected = errors.New("the step is rejected")

// System runs sagas. Its methods may be called concurrently.
type System interface {
	// Start stores a saga, whose id is a UUID, and returns then. The saga runs by itself;
	// ctx is for the start only.
	Start(ctx context.Context, id string) error
	// Counts asks the store how many sagas there are.
	Counts(ctx context.Context) (Counts, error)
	// Close ends the system.
	Close()
}

// Counts are sagas by what has become of them.
type Counts struct {
	Active int `json:"active"`
	Done   int `json:"done"`
	Undone int `json:"undone"`
}

// StepFunc calls a step of a saga and returns nil, ErrRejected, or why it is not known.
type StepFunc func(ctx context.Context, saga, step string) error

// Run calls the steps in their order, by way of call, which a system makes durable, and
// undoes them if one is rejected. It is for systems whose sagas are programs.
func Run(call func(step string) error) (undone bool, err error) {
	undos := []string{}
	for _, s := range [][2]string{{One, UndoOne}, {Two, UndoTwo}, {Three, ""}} {
		err := call(s[0])
		if err == nil {
			undos = append(undos, s[1])
			continue
		}
		for i := len(undos) - 1; i >= 0; i-- {
			if err := call(undos[i]); err != nil {
				return true, err
			}
		}
		return true, nil
	}
	return false, nil
}
