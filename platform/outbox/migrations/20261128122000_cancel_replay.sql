-- A replay can be given up, and tells how many events the broker did not take.
ALTER TABLE slipway.outbox_replay
    ADD COLUMN cancelled boolean NOT NULL DEFAULT false,
    ADD COLUMN left_out  bigint  NOT NULL DEFAULT 0;

-- Which event an entry is about: one that was discarded for a sink is not replayed to
-- it.
ALTER TABLE slipway.outbox_journal ADD COLUMN event_id uuid;
UPDATE slipway.outbox_journal SET event_id = split_part(detail, ' ', 2)::uuid WHERE action = 'discard';
CREATE INDEX outbox_journal_discarded ON slipway.outbox_journal (event_id, sink) WHERE action = 'discard';
