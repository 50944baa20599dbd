-- Where each sink is, who publishes to it, and what is held back.
-- docs/adr/0007-outbox-relay.md says why it has this shape.

-- False for an event whose transaction does not wait for the disk: it can be seen
-- before it is safe.
ALTER TABLE slipway.outbox
    ADD COLUMN durable boolean NOT NULL DEFAULT current_setting('synchronous_commit') <> 'off';

-- A few bytes for each sixteen pages: a backlog is read by ranges of ids, a replay
-- begins at a time. It is over id + 0 so that no plan can
-- take the other index for it, which has id in its second place and would be read
-- whole: a plan that was made while a child was empty is kept when it has grown.
CREATE INDEX outbox_ids ON slipway.outbox USING brin ((id + 0), created_at) WITH (pages_per_range = 16, autosummarize = on);

-- One row a sink: who publishes to it, and from where. It changes when the lease
-- changes hands, and when an operator says so.
CREATE TABLE slipway.outbox_sink (
    sink              text        PRIMARY KEY,
    -- Every event that is visible in it is published, or parked.
    snapshot          pg_snapshot NOT NULL DEFAULT '3:3:',
    -- Events of transactions that were not known to the snapshot have larger ids.
    floor             bigint      NOT NULL DEFAULT 0,
    -- The window that is being worked through in pieces, if there is one: the
    -- snapshot at its end, its highest id, the floor that comes with it, and the
    -- id up to which it is done.
    target            pg_snapshot,
    target_high       bigint,
    target_floor      bigint,
    target_done       bigint,
    -- When the last batch was published.
    published_at      timestamptz,
    -- Which step the position is that of.
    beat              bigint      NOT NULL DEFAULT 0,
    -- The lease: a replica that takes over increments term.
    term              bigint      NOT NULL DEFAULT 0,
    holder            text,
    -- The cluster that the snapshots belong to. NULL when it may not be asked.
    system_identifier bigint,
    paused_at         timestamptz,
    created_at        timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Where a sink is after each batch and each sign of life. Rows are appended: an
-- UPDATE of one row several hundred times a second would leave as many dead ones
-- behind, for as long as anybody holds a snapshot, and each would be slower than
-- the one before. The active relay moves the last step into outbox_sink now and
-- then and truncates this table; vacuum has nothing to do here.
CREATE TABLE slipway.outbox_step (
    sink         text        NOT NULL,
    beat         bigint      NOT NULL,
    snapshot     pg_snapshot NOT NULL,
    floor        bigint      NOT NULL,
    target       pg_snapshot,
    target_high  bigint,
    target_floor bigint,
    target_done  bigint,
    published_at timestamptz,
    PRIMARY KEY (sink, beat)
) WITH (autovacuum_enabled = off);

-- Where each sink is now.
CREATE VIEW slipway.outbox_position AS
SELECT s.sink, s.term, s.holder, s.system_identifier, s.paused_at,
    p.beat, p.snapshot, p.floor, p.target, p.target_high, p.target_floor, p.target_done, p.published_at
FROM slipway.outbox_sink s CROSS JOIN LATERAL (
    (SELECT t.beat, t.snapshot, t.floor, t.target, t.target_high, t.target_floor, t.target_done, t.published_at
        FROM slipway.outbox_step t WHERE t.sink = s.sink ORDER BY t.beat DESC LIMIT 1)
    UNION ALL
    SELECT s.beat, s.snapshot, s.floor, s.target, s.target_high, s.target_floor, s.target_done, s.published_at
    ORDER BY beat DESC LIMIT 1
) p;

-- An aggregate whose first event here could not be published. next_attempt_at is
-- NULL when only an operator can help.
CREATE TABLE slipway.outbox_parked_aggregate (
    sink            text        NOT NULL REFERENCES slipway.outbox_sink ON DELETE CASCADE,
    aggregate_type  text        NOT NULL,
    aggregate_id    text        NOT NULL,
    error           text        NOT NULL,
    attempts        int         NOT NULL,
    redrives        int         NOT NULL DEFAULT 0,
    parked_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_attempt_at timestamptz,
    PRIMARY KEY (sink, aggregate_type, aggregate_id)
);

-- The events that wait, the failed one and all later ones of its aggregate, whole:
-- the rotation does not wait for them.
CREATE TABLE slipway.outbox_parked (
    sink              text        NOT NULL,
    aggregate_type    text        NOT NULL,
    aggregate_id      text        NOT NULL,
    id                bigint      NOT NULL,
    created_at        timestamptz NOT NULL,
    aggregate_version bigint      NOT NULL,
    event_id          uuid        NOT NULL,
    event_version     int         NOT NULL,
    event_type        text        NOT NULL,
    payload           bytea       NOT NULL,
    headers           text        NOT NULL,
    PRIMARY KEY (sink, aggregate_type, aggregate_id, id),
    FOREIGN KEY (sink, aggregate_type, aggregate_id) REFERENCES slipway.outbox_parked_aggregate ON DELETE CASCADE
);

ALTER TABLE slipway.outbox_parked ALTER COLUMN payload SET STORAGE EXTERNAL;

CREATE INDEX outbox_parked_event_id ON slipway.outbox_parked (event_id);

-- Requests to publish again what was published. done is the id up to which it has
-- been done.
CREATE TABLE slipway.outbox_replay (
    replay       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sink         text        NOT NULL REFERENCES slipway.outbox_sink ON DELETE CASCADE,
    since        timestamptz NOT NULL,
    snapshot     pg_snapshot NOT NULL,
    done         bigint      NOT NULL,
    high         bigint      NOT NULL,
    published    bigint      NOT NULL DEFAULT 0,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at  timestamptz
);

CREATE INDEX outbox_replay_open ON slipway.outbox_replay (sink, replay) WHERE finished_at IS NULL;

-- What operators did.
CREATE TABLE slipway.outbox_journal (
    entry  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    who    text        NOT NULL,
    action text        NOT NULL,
    sink   text,
    reason text        NOT NULL,
    detail text        NOT NULL
);
