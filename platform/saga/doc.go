// Package saga describes business processes of several steps that together happen, or are undone.
//
//	checkout := saga.Define("checkout", 1,
//		saga.Undo("cancel-order", cancel),
//		saga.Step("reserve-stock", reserve).Undo("release-stock", release),
//		saga.Step("authorize-payment", authorize).Undo("void-payment", void).Verify(authorized),
//		saga.Pivot("confirm-order", confirm),
//	)
//
// The package holds definitions and the state machine, and nothing else: it knows no database and no
// clock. platform/saga/sagapg runs sagas on PostgreSQL, platform/saga/sagatest in a unit test.
//
//	             step done                    last step done
//	  RUNNING ──────────────► RUNNING ─────────────────────────► COMPLETED
//	     │  rejected, out of attempts, deadline: not after the pivot
//	     ▼
//	COMPENSATING ────────────────────────────────────────────────► COMPENSATED
//	     │        every step that may have had an effect is undone, the last one first
//	     │ an undo, or a step after the pivot, is out of attempts
//	     ▼
//	NEEDS_OPERATOR ── retry, skip, compensate ──► back;  resolve ──► RESOLVED
//
// # What a step must be
//
// A step is called at least once: a process may die after the call and before its result is stored.
// Each call of a step carries the same key, [Call.Key]; who is called does the work once for a key, and
// package barrier helps with that. A call that failed may still have had its effect; that is what
// errors are told apart by:
//
//   - [Rejected]: this attempt has had no effect and another one would have none. The saga is undone.
//   - [Retryable]: this attempt has had no effect. The step is tried again.
//   - any other error, a timeout above all: nobody knows. The step is tried again, and if that does not
//     help, its verify function is asked; without one it is undone as if it had happened.
//
// An outcome once unknown stays so until an attempt succeeds: a step that is rejected after a timeout is
// undone too, for the first attempt may have had its effect, or may still have it.
//
// An undo is called for every step that has or may have happened. It must succeed when there is nothing
// to undo, and must keep a call of the step that is still on its way from having an effect later.
// A pivot whose outcome stays unknown needs an operator: nothing is undone then, and nothing goes on.
//
// # What is true after a crash
//
// Nothing is known to a process alone. Wherever it dies, another one finds the saga as it was stored
// last and goes on from there: calls whose results were not stored are made again with their key, and
// count as attempts of unknown outcome.
//
// The idea is from Garcia-Molina and Salem, Sagas (1987); pivot and retryable steps are named as in
// Richardson, Microservices Patterns (2018).
package saga
