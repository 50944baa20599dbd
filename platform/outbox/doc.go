// Package outbox stores events in the transaction that they belong to, and publishes
// them to a broker: each at least once, those of an aggregate in their order.
//
//	transaction:  change rows -> Add -> COMMIT      the event exists
//	                              \--> ROLLBACK     it never did
//
//	relay:   standby --lease free--> active: read window -> publish -> store position
//	            ^                       |                     |
//	            \---- lease lost -------/                     \--> parked, when the broker
//	                                                               does not take an event
//
// # What is true after a crash here
//
//   - Of a process that adds events: an event exists exactly if the transaction that
//     added it is committed. There is nothing to repair.
//   - Of the active relay: a standby takes over within two leases and publishes from
//     the stored position: the batch in hand is published twice, and what was
//     published since the position was stored, at most another batch, in order.
//   - Of the database: the position may be a few batches old, since it does not wait
//     for the disk; those are published again. An event that itself could be lost by
//     the crash is not published before it is on the disk.
//   - Of the broker: business goes on, events wait. If it lost what it had
//     acknowledged, a replay publishes that again for as long as the retention lasts.
//
// Consumers see duplicates; the package inbox makes them harmless.
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
// The relay reads windows between two snapshots, each sorted by id: they are
// complete, they keep this order, and a transaction that stays open holds up its own
// events only. An event that the broker does not take is parked, and the later ones
// of its aggregate behind it; all others flow.
//
// # Table
//
// slipway.outbox is partitioned into children that rotate: one takes the new
// events, the others are kept for a while and then truncated. Nothing in it is ever
// updated or deleted. Migrations brings the tables; docs/adr/0003-outbox-table.md and
// docs/adr/0007-outbox-relay.md give the reasons. For a database without 64-bit
// transaction ids there is Fallback.
package outbox
