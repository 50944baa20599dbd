-- The token of the card is not among the columns: it is stored nowhere.
CREATE TABLE payments (
    id              uuid        PRIMARY KEY,
    idempotency_key text        NOT NULL UNIQUE,
    order_id        uuid        NOT NULL UNIQUE,
    status          text        NOT NULL CHECK (status IN (
        'AUTHORIZING', 'AUTHORIZED', 'DECLINED', 'VOIDING', 'VOIDED', 'CAPTURING', 'CAPTURED', 'REFUNDING', 'REFUNDED'
    )),
    currency        text        NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    amount_minor    bigint      NOT NULL CHECK (amount_minor > 0),
    decline_reason  text        NOT NULL DEFAULT '',
    refund_reason   text        NOT NULL DEFAULT '',
    version         bigint      NOT NULL CHECK (version > 0),
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    -- By the clock of the database, as are all times that something depends on.
    in_doubt_since  timestamptz CHECK (in_doubt_since IS NULL OR status IN ('VOIDING', 'VOIDED')),
    look_at         timestamptz CHECK ((look_at IS NOT NULL) = (in_doubt_since IS NOT NULL OR status LIKE '%ING')),
    looks           int         NOT NULL DEFAULT 0,
    CHECK (decline_reason = '' OR status = 'DECLINED')
);

-- What is not settled, longest overdue first: few rows, however many payments there are.
CREATE INDEX payments_look_at ON payments (look_at) WHERE look_at IS NOT NULL;
