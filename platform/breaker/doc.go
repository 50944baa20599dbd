// Package breaker keeps calls away from a callee that fails: it lets callers fail at once
// instead of waiting, and lets the callee recover instead of being called.
//
//	          Failures in a row, or Ratio of at least MinCalls in Window
//	closed ────────────────────────────────────────────────────────────▶ open ◀─┐
//	  ▲                                                                    │    │ a probe
//	  │ HalfOpenProbes calls                    after OpenTimeout, doubled │    │ fails
//	  │ have succeeded                        each time, up to MaxOpen     ▼    │
//	  └───────────────────────────────────────────────────────────── half open ─┘
//
// Closed, every call passes. Open, none does: [Breaker.Do] returns a [RejectedError] without calling.
// Half open, HalfOpenProbes calls pass and the others do not; if all of those succeed it closes, and
// the next time it opens for OpenTimeout again.
//
// # What counts
//
// A breaker measures its callee. What its callers do wrong or take back says nothing about it, so
// Config.Classify tells success, failure and what is to be ignored apart. Ignored on every account
// are rejections of this or another breaker, and whatever a call returns after its caller has
// cancelled. A callee that lets the deadline pass has failed.
//
// Calls that began before a change of the state do not count after it. Calls in flight at the moment
// of opening are not interrupted.
//
// # Metrics
//
// circuit_breaker_state{name,state} is 1 for one of closed, half_open and open, and 0 for the
// others. The state is asked for when it is scraped, so it is right even if nobody calls: an open
// breaker whose time is over is half open. circuit_breaker_rejections_total{name,reason} counts calls
// that were not made, circuit_breaker_transitions_total{name,from,to,reason} counts changes. All
// series exist from the start. Breakers with one name and one registerer share their series; the
// state is that of the worst.
package breaker
