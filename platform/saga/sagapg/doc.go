// Package sagapg keeps sagas in PostgreSQL and runs them.
//
//	var begin func()
//	err := postgres.InTx(ctx, pool, opts, func(tx pgx.Tx) (err error) {
//		... the business change ...
//		begin, err = sagapg.Start(ctx, tx, runner, checkout, order.ID, state)
//		return err
//	})
//	if err == nil {
//		begin()
//	}
//
// A saga is a row; every attempt at a step is a line of an append-only journal. Any number of processes
// run a [Runner] on the same database:
//
//	Start ──► due ──claim──► owned by a worker ──► calls a step ──► stores the result ─┐
//	           ▲                 ▲    │                                                │
//	           │                 └────┼──────────── next step ◄────────────────────────┤
//	           │ a long pause, a wait │ the process dies:                              │ it is over
//	           └──────────────────────┤ another worker claims it                       ▼
//	                                  └──────────────────►                          finished
//
// # What is true after a crash
//
//   - Of a process: its row in saga_worker stands still. After a lease, each by its own monotonic clock,
//     the others take its sagas over: nobody compares clocks. Calls whose results were not stored are made
//     again, with the same key.
//   - A process that was taken for dead and lives writes nothing: every write names the worker and the
//     token of its claim, and what does not match is refused and counted (saga_refused_writes_total). A
//     step on the same database uses [Guard] to have that checked in its own transaction.
//   - Of the database: what was committed is there. Claims and signs of life are not waited for; losing
//     them costs a claim.
//
// What does not get on an [Operator] decides about: each decision changes the token and leaves the saga
// without an owner, so whoever was at work on it is refused, and its calls count as of unknown outcome.
// What operators did is kept for ever (saga_action).
//
// # Time
//
// Deadlines and pauses are by the database's clock, which each process carries on by its monotonic clock
// between two signs of life, and while the database is away. A jump of the database's clock is noticed and
// taken out (saga_clock), so no deadline and no pause changes when somebody sets it or a standby with
// another clock takes over, as long as one process lives through it. What is started in the seconds before
// a jump is noticed may have the other time: a process that runs sagas gives its own, others ask the
// database. A process that stood still itself, on a machine that was suspended, takes the time from those
// that did not.
//
// # Speed
//
// Results that come while a commit is on its way share the next one: the more sagas run, the less each of
// them costs. A saga of three steps that runs alone waits for four commits: its start and three results.
package sagapg
