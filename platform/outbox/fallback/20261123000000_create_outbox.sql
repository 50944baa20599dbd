-- Events of committed transactions for a database without 64-bit transaction ids:
-- what is published is deleted. The columns are those of the other outbox as far as
-- Add writes them.

-- CACHE 1: a session that held a block of ids could give a later event of an
-- aggregate a smaller one.
CREATE SEQUENCE slipway.outbox_id_seq AS bigint CACHE 1;

CREATE TABLE slipway.outbox (
    id                bigint      PRIMARY KEY DEFAULT nextval('slipway.outbox_id_seq'),
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
);

-- Add asks which part of the table takes new events. Here it has one.
CREATE TABLE slipway.outbox_rotation (
    slot    smallint PRIMARY KEY,
    current boolean  NOT NULL
);

INSERT INTO slipway.outbox_rotation (slot, current) VALUES (0, true);

-- The lease: a replica that takes over increments term, one that lives beat.
CREATE TABLE slipway.outbox_sink (
    sink   text   PRIMARY KEY,
    term   bigint NOT NULL DEFAULT 0,
    beat   bigint NOT NULL DEFAULT 0,
    holder text
);

-- Aggregates of which an event could not be published. Their events stay where they
-- are. next_attempt_at is NULL when only an operator can help.
CREATE TABLE slipway.outbox_held (
    aggregate_type  text        NOT NULL,
    aggregate_id    text        NOT NULL,
    error           text        NOT NULL,
    attempts        int         NOT NULL,
    held_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_attempt_at timestamptz,
    PRIMARY KEY (aggregate_type, aggregate_id)
);
