-- What a replay is about: the events that are visible in snapshot, and those of a
-- window that was being worked through, visible in target, up to the id target_done.
-- The relay notes it when it begins: then it knows of everything whether it is
-- published.
ALTER TABLE slipway.outbox_replay
    ADD COLUMN target      pg_snapshot,
    ADD COLUMN target_done bigint,
    ADD COLUMN begun_at    timestamptz;
