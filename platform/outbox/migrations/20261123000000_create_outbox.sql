-- Events of committed transactions, insert-only, for a relay to publish.
-- docs/adr/0003-outbox-table.md says why it has this shape.

-- CACHE 1: a session that held a block of ids could give a later event of an
-- aggregate a smaller one.
CREATE SEQUENCE slipway.outbox_id_seq AS bigint CACHE 1;

CREATE TABLE slipway.outbox (
    xid               xid8        NOT NULL DEFAULT pg_current_xact_id(),
    id                bigint      NOT NULL DEFAULT nextval('slipway.outbox_id_seq'),
    created_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    aggregate_version bigint      NOT NULL,
    event_id          uuid        NOT NULL,
    event_version     int         NOT NULL,
    lane              smallint    NOT NULL,
    slot              smallint    NOT NULL,
    aggregate_type    text        NOT NULL,
    aggregate_id      text        NOT NULL,
    event_type        text        NOT NULL,
    payload           bytea       NOT NULL,
    headers           text        NOT NULL
) PARTITION BY LIST (slot);

ALTER SEQUENCE slipway.outbox_id_seq OWNED BY slipway.outbox.id;

-- Payloads are stored as they are: compressing each costs the writer more than
-- the disk of a table that is emptied by rotation.
ALTER TABLE slipway.outbox ALTER COLUMN payload SET STORAGE EXTERNAL;

CREATE INDEX outbox_xid_id ON slipway.outbox (xid, id);

-- Nothing is ever updated or deleted here, and TRUNCATE leaves nothing to clean:
-- vacuum would only read what is thrown away whole.
CREATE TABLE slipway.outbox_0 PARTITION OF slipway.outbox FOR VALUES IN (0)
    WITH (autovacuum_vacuum_insert_threshold = -1);
CREATE TABLE slipway.outbox_1 PARTITION OF slipway.outbox FOR VALUES IN (1)
    WITH (autovacuum_vacuum_insert_threshold = -1);
CREATE TABLE slipway.outbox_2 PARTITION OF slipway.outbox FOR VALUES IN (2)
    WITH (autovacuum_vacuum_insert_threshold = -1);

-- Which child takes new events. closed_xid is the xid of the rotation that
-- closed a child.
CREATE TABLE slipway.outbox_rotation (
    slot       smallint    PRIMARY KEY,
    current    boolean     NOT NULL,
    opened_at  timestamptz,
    closed_at  timestamptz,
    closed_xid xid8
);

CREATE UNIQUE INDEX outbox_rotation_current ON slipway.outbox_rotation (current) WHERE current;

INSERT INTO slipway.outbox_rotation (slot, current, opened_at)
VALUES (0, true, clock_timestamp()), (1, false, NULL), (2, false, NULL);
