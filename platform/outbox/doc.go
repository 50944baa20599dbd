// Package outbox stores events in the transaction that they belong to, for a
// relay to publish.
//
//	transaction:  change rows -> Add -> COMMIT      the event exists
//	                              \--> ROLLBACK     it never did
//
// What is true after a crash here: an event exists exactly if the transaction
// that added it is committed. There is no state between, and nothing to repair.
//
// # Order
//
// Events of one aggregate are published in the order of the transactions that
// added them if those transactions were serialised on the aggregate: each locked
// its row (SELECT ... FOR UPDATE, or an UPDATE of it) or checked its version
// before it called Add. Then the later transaction draws its id from the sequence
// after the earlier one has committed, so its id is larger, and no snapshot of the
// database shows the later event without the earlier one. Events of one aggregate
// added by transactions that were not serialised have no order. Events of one call
// keep the order in which they were given.
//
// # Table
//
// slipway.outbox is partitioned into children that rotate: one takes the new
// events, the others are kept for a while and then truncated. Migrations brings
// the tables.
package outbox
