-- Which steps of sagas a participant has done and undone. Rows are removed by age.
CREATE TABLE slipway.saga_barrier (
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    acted  boolean     NOT NULL DEFAULT false,
    undone boolean     NOT NULL DEFAULT false,
    key    text        PRIMARY KEY COLLATE "C"
) WITH (fillfactor = 90);

CREATE INDEX saga_barrier_at ON slipway.saga_barrier USING brin (at) WITH (pages_per_range = 16, autosummarize = on);
