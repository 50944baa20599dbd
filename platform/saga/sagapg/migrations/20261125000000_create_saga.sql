-- Sagas that run, what has become of those that are over, and every attempt at their steps.
-- docs/adr/0010-saga.md says why it has this shape.

-- What is added to the database's clock to get the time of sagas: jumps of the clock are
-- taken out here, so that no deadline and no pause changes by them.
CREATE TABLE slipway.saga_clock (
    single boolean  PRIMARY KEY DEFAULT true CHECK (single),
    adjust interval NOT NULL DEFAULT '0'
);

INSERT INTO slipway.saga_clock DEFAULT VALUES;

-- The definitions that sagas were started with. shape changes with the steps, plan has all
-- that an operator needs without the program.
CREATE TABLE slipway.saga_definition (
    id          int         GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version     int         NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    stuck_after interval    NOT NULL,
    name        text        NOT NULL COLLATE "C",
    shape       text        NOT NULL,
    plan        text        NOT NULL,
    UNIQUE (name, version)
);

-- Processes that run sagas. beats grows as long as one lives: the others watch it, each by
-- its own clock. An id is never used again.
CREATE TABLE slipway.saga_worker (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    beats       bigint      NOT NULL DEFAULT 0,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at    timestamptz,
    definitions int[]       NOT NULL,
    name        text        NOT NULL
) WITH (fillfactor = 50);

-- Sagas that are not over. owner runs it; token is that of the claim and proves it.
-- Without an owner next_run_at is when somebody has to go on, or NULL if only a signal or
-- an operator helps. stage -1 has not begun. Progress changes no indexed column, so that
-- it stays within the page.
CREATE TABLE slipway.saga (
    token         bigint      NOT NULL DEFAULT 0,
    owner         bigint,
    next_run_at   timestamptz,
    deadline      timestamptz,
    failing_since timestamptz,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    definition    int         NOT NULL,
    claims        int         NOT NULL DEFAULT 0,
    stage         smallint    NOT NULL DEFAULT -1,
    status        smallint    NOT NULL DEFAULT 0,
    backward      boolean     NOT NULL DEFAULT false,
    id            uuid        PRIMARY KEY,
    steps         bytea,
    data          bytea       NOT NULL,
    waits_for     text,
    headers       text        NOT NULL,
    reason        text        NOT NULL DEFAULT '',
    problem       text        NOT NULL DEFAULT ''
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX saga_due ON slipway.saga (definition, next_run_at) WHERE next_run_at IS NOT NULL;
CREATE INDEX saga_owned ON slipway.saga (owner) WHERE owner IS NOT NULL;
CREATE INDEX saga_failing ON slipway.saga (definition, failing_since) WHERE failing_since IS NOT NULL;
CREATE INDEX saga_operator ON slipway.saga (definition) WHERE status = 2;

-- Signals that no saga has taken yet.
CREATE TABLE slipway.saga_signal (
    id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    saga_id uuid        NOT NULL,
    name    text        NOT NULL,
    payload bytea       NOT NULL
);

CREATE INDEX saga_signal_saga ON slipway.saga_signal (saga_id, name, id);

-- Sagas that are over, a partition a day; days go as a whole.
CREATE TABLE slipway.saga_finished (
    finished_at timestamptz NOT NULL,
    created_at  timestamptz NOT NULL,
    definition  int         NOT NULL,
    stage       smallint    NOT NULL,
    status      smallint    NOT NULL,
    backward    boolean     NOT NULL,
    id          uuid        NOT NULL,
    data        bytea       NOT NULL,
    headers     text        NOT NULL,
    reason      text        NOT NULL,
    problem     text        NOT NULL
) PARTITION BY RANGE (finished_at);

CREATE INDEX saga_finished_id ON slipway.saga_finished (id);
CREATE INDEX saga_finished_at ON slipway.saga_finished (finished_at);

CREATE TABLE slipway.saga_finished_default PARTITION OF slipway.saga_finished DEFAULT;

-- Every attempt, a partition a day.
CREATE TABLE slipway.saga_journal (
    at       timestamptz NOT NULL,
    took     interval    NOT NULL,
    worker   bigint      NOT NULL,
    attempt  int         NOT NULL,
    call     smallint    NOT NULL,
    class    smallint    NOT NULL,
    saga_id  uuid        NOT NULL,
    step     text        NOT NULL,
    error    text        NOT NULL,
    trace_id text        NOT NULL
) PARTITION BY RANGE (at);

CREATE INDEX saga_journal_saga ON slipway.saga_journal (saga_id, at);

CREATE TABLE slipway.saga_journal_default PARTITION OF slipway.saga_journal DEFAULT;

-- What operators did. saga_id is NULL for what is about many.
CREATE TABLE slipway.saga_action (
    entry   bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    saga_id uuid,
    who     text        NOT NULL,
    action  text        NOT NULL,
    reason  text        NOT NULL,
    detail  text        NOT NULL
);

CREATE INDEX saga_action_saga ON slipway.saga_action (saga_id, entry);
