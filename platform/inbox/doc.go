// Package inbox gives each message of a broker its effect once, and stores what
// cannot be applied where it blocks nobody and is not lost.
//
//	               +-- new -------> handler --> COMMIT --> ack     applied
//	message -> mark+-- seen --------------------------------> ack     duplicate
//	               +-- too soon --> stored ----> COMMIT --> ack     early
//	                    handler fails: ROLLBACK --> nack, later     retried
//	                    and no more attempts:   --> COMMIT --> ack     dead letter
//
// What is true after a crash
//
//   - before the commit of the handler's transaction: nothing has happened, no
//     mark, no effect. The broker hands the message over again.
//   - after it, before the acknowledgement: mark and effect are there. The message
//     comes again and is a duplicate.
//   - after a handler failed, before the attempt is counted: the attempt was none.
//   - after a dead letter was stored, before the acknowledgement: the dead letter
//     has a mark. The message comes again and is a duplicate.
//   - after an early event was stored, before the acknowledgement: it comes again
//     and is early again, with one row.
//   - after a gap was closed, before the events behind it are applied: they were set
//     free by the transaction that closed it. Any replica goes on within Poll.
//   - in a redrive: the dead letter is as it was, and still to be redriven. After
//     its commit it is resolved and the effect is there.
//
// All this is as durable as the database's commits: it needs synchronous_commit. A
// consumer says so in its log when that is off.
//
// # Two ways to recognise a message
//
// [ByID] keeps ids, one row a message, in partitions by the day in the id: those of
// the outbox are UUIDv7. Ids of a day are kept until the whole day is older than
// Retention, and its partition is then dropped. An id that is older is not taken
// for new: [Once] refuses it with [ErrTooOld], a [Consumer] makes it a dead letter.
//
// [ByVersion] keeps one row an aggregate, the version applied last, for all time.
// An event that comes before its predecessor is stored and acknowledged, and is
// applied after that: the broker's queue does not wait for a gap that a replay
// closes. A dead letter stops its aggregate: the later events wait in order until
// an operator has it redriven or discarded. So does a version that never comes,
// until an operator skips it: see [Operator.Skip].
//
// # Failures
//
// A handler's error is permanent (see [Permanent]) or may pass; the latter is tried
// again after a pause, MaxAttempts times over all replicas. What the database is to
// blame for is not an attempt: the message waits for as long as the outage lasts,
// and is never a dead letter because of it. A handler that takes the whole process
// down is not an attempt either.
package inbox
