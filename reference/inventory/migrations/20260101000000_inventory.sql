-- Articles are sorted byte by byte, in the database as in the service.
--
-- Of on_hand pieces in the warehouse reserved ones are promised; committed ones have left it. on_hand +
-- committed changes with deliveries and counts only.
CREATE TABLE stock (
    sku        text        PRIMARY KEY COLLATE "C",
    on_hand    bigint      NOT NULL,
    reserved   bigint      NOT NULL CHECK (reserved >= 0 AND reserved <= on_hand),
    committed  bigint      NOT NULL CHECK (committed >= 0),
    version    bigint      NOT NULL CHECK (version > 0),
    updated_at timestamptz NOT NULL
) WITH (fillfactor = 50); -- Rows of articles in demand change all the time: new versions stay on their page.

CREATE TABLE reservations (
    id              uuid        PRIMARY KEY,
    idempotency_key text        NOT NULL UNIQUE,
    order_id        uuid        NOT NULL UNIQUE,
    status          text        NOT NULL CHECK (status IN ('RESERVED', 'RELEASED', 'COMMITTED')),
    version         bigint      NOT NULL CHECK (version > 0),
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL
);

CREATE TABLE reservation_lines (
    reservation_id uuid   NOT NULL REFERENCES reservations,
    sku            text   NOT NULL COLLATE "C",
    quantity       bigint NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (reservation_id, sku)
);
