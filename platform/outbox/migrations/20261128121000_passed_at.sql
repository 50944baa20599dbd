-- Since when every sink has settled every event of a closed child: from then on it is
-- kept for the retention. passed sees the events that were looked at; one that is
-- committed later begins it anew.
ALTER TABLE slipway.outbox_rotation
    ADD COLUMN passed_at timestamptz,
    ADD COLUMN passed    pg_snapshot;
