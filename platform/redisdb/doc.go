// Package redisdb holds what a service does with Redis: a client that gives up quickly, a
// read-through [Cache] and a [Limiter].
//
// Redis is a helper, never the truth: everything here keeps working without it. A call that
// Redis does not answer costs its timeout once; after that Redis is left alone for a second,
// and then one call probes it. Meanwhile the cache loads from the source and the limiter
// allows. Both count what they did.
//
// # What the cache promises
//
//   - A value never replaces a newer one. Entries carry the version of their value, and one
//     Lua script compares before it writes.
//   - After [Cache.Invalidate] returned, an older value is not put back, however slow the reader
//     that still holds it: the invalidation leaves a fence with the version behind, which
//     outlives every load that began before it.
//   - A Get that begins after Invalidate returned, in the same process, sees that version or a
//     newer one, also while Redis is down.
//   - Many callers of one key cause one load. A caller that gives up leaves, and the load goes
//     on for the others.
//
// What it does not promise: another process may serve the old value until the invalidation has
// reached Redis. One that Redis did not take is kept in memory and sent with the first call
// that gets through. If the process dies between its commit and the invalidation, or Redis
// loses a fence (restart, eviction, failover), an old value may live for at most the TTL.
package redisdb
