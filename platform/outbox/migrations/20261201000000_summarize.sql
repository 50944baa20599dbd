-- The database completes the index of ids in the background (autosummarize), at the request
-- of who fills its pages: but it keeps 256 requests, for all indexes, until autovacuum comes by.
-- One for each sixteen pages is too many for a few thousand events a second, and the first
-- to read a backlog had to look at the rest. 128 pages hold one or two thousand events.
-- What a child has is replaced when rotation empties it; at once only where that takes a
-- moment, in which nobody can add events.
LOCK TABLE slipway.outbox IN SHARE MODE; -- before its indexes, in the order of who adds events

DO $$
DECLARE
    slot int;
BEGIN
    FOR slot IN 0..2 LOOP
        EXECUTE format('ALTER INDEX slipway.outbox_%s_expr_created_at_idx SET (pages_per_range = 128)', slot);
        IF pg_relation_size(format('slipway.outbox_%s', slot)) < 32 * 1024 * 1024 THEN
            EXECUTE format('REINDEX INDEX slipway.outbox_%s_expr_created_at_idx', slot);
            -- A new index has the last range: with that each new event changes it.
            PERFORM brin_desummarize_range(format('slipway.outbox_%s_expr_created_at_idx', slot)::regclass,
                greatest(pg_relation_size(format('slipway.outbox_%s', slot)) / current_setting('block_size')::int - 1, 0));
        END IF;
    END LOOP;
END $$;
