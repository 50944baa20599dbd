package migrate

// LockKey lets tests take the lock of a run.
const LockKey int64 = lockKey
