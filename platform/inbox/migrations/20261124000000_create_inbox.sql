-- What consumers have applied, what waits, and what could not be applied.
-- docs/adr/0006-inbox.md says why it has this shape.

-- The ids of applied messages. day is that of the UUIDv7, so that duplicates meet
-- in one partition; days go as a whole. consumer comes first in the key and the
-- ids grow: inserts touch the right edge of the index.
CREATE TABLE slipway.inbox (
    message_id  uuid        NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    day         date        NOT NULL,
    consumer    text        NOT NULL COLLATE "C",
    PRIMARY KEY (consumer, message_id, day)
) PARTITION BY RANGE (day);

-- Ids that are not UUIDv7, as hashes, with the day -infinity. Rows go by age.
CREATE TABLE slipway.inbox_other PARTITION OF slipway.inbox FOR VALUES FROM (MINVALUE) TO ('1970-01-01');

CREATE INDEX inbox_other_received_at ON slipway.inbox_other (received_at);

-- Days that have no partition. It stays all but empty, so that the exclusive lock
-- that attaching a partition needs here disturbs nobody.
CREATE TABLE slipway.inbox_default PARTITION OF slipway.inbox DEFAULT;

-- Ids of days before oldest are refused. It only ever grows.
CREATE TABLE slipway.inbox_horizon (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    oldest date    NOT NULL
);

INSERT INTO slipway.inbox_horizon (oldest) VALUES ('-infinity');

-- Who consumes, and for how long ids are kept for it.
CREATE TABLE slipway.inbox_consumer (
    consumer  text        PRIMARY KEY COLLATE "C",
    mode      text        NOT NULL,
    retention interval    NOT NULL,
    seen_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The version up to which a consumer has applied the events of an aggregate. held:
-- the next version is a dead letter, the later ones wait for it. Updates are HOT:
-- nothing but the key is indexed and pages have room.
CREATE TABLE slipway.inbox_watermark (
    version  bigint  NOT NULL,
    held     boolean NOT NULL DEFAULT false,
    consumer text    NOT NULL COLLATE "C",
    key      text    NOT NULL COLLATE "C",
    PRIMARY KEY (consumer, key)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- Events that came before their predecessor. ready_at is set when that has been
-- applied: it is when to try, next or again.
CREATE TABLE slipway.inbox_early (
    version         bigint      NOT NULL,
    received_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    ready_at        timestamptz,
    first_failed_at timestamptz,
    attempts        int         NOT NULL DEFAULT 0,
    consumer        text        NOT NULL COLLATE "C",
    key             text        NOT NULL COLLATE "C",
    message_id      text        NOT NULL,
    subject         text        NOT NULL,
    headers         text        NOT NULL,
    payload         bytea       NOT NULL,
    PRIMARY KEY (consumer, key, version)
);

CREATE INDEX inbox_early_ready ON slipway.inbox_early (consumer, ready_at) WHERE ready_at IS NOT NULL;

-- Attempts at messages that the broker will hand over again.
CREATE TABLE slipway.inbox_attempt (
    consumer   text        NOT NULL COLLATE "C",
    message_id text        NOT NULL COLLATE "C",
    attempts   int         NOT NULL,
    first_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (consumer, message_id)
);

CREATE INDEX inbox_attempt_last_at ON slipway.inbox_attempt (last_at);

-- Dead letters. A resolved one stays for a while, so that the message is known
-- when it comes again. version is NULL where order is not kept.
CREATE TABLE slipway.inbox_dead (
    id                   bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version              bigint,
    first_at             timestamptz NOT NULL,
    last_at              timestamptz NOT NULL DEFAULT clock_timestamp(),
    redrive_requested_at timestamptz,
    resolved_at          timestamptz,
    attempts             int         NOT NULL,
    consumer             text        NOT NULL COLLATE "C",
    message_id           text        NOT NULL COLLATE "C",
    key                  text        NOT NULL COLLATE "C",
    subject              text        NOT NULL,
    headers              text        NOT NULL,
    payload              bytea       NOT NULL,
    class                text        NOT NULL,
    error                text        NOT NULL,
    resolution           text,
    CONSTRAINT inbox_dead_message UNIQUE NULLS NOT DISTINCT (consumer, message_id, version)
);

CREATE INDEX inbox_dead_open ON slipway.inbox_dead (consumer, id) WHERE resolved_at IS NULL;
CREATE INDEX inbox_dead_redrive ON slipway.inbox_dead (consumer, id)
    WHERE redrive_requested_at IS NOT NULL AND resolved_at IS NULL;
CREATE INDEX inbox_dead_resolved ON slipway.inbox_dead (resolved_at) WHERE resolved_at IS NOT NULL;

-- What operators did.
CREATE TABLE slipway.inbox_journal (
    entry    bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    who      text        NOT NULL,
    action   text        NOT NULL,
    reason   text        NOT NULL,
    detail   text        NOT NULL
);
