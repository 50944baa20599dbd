CREATE TABLE orders (
    id            uuid        PRIMARY KEY,
    owner         text        NOT NULL,
    customer_id   text        NOT NULL,
    status        text        NOT NULL CHECK (status IN ('PENDING', 'CONFIRMED', 'CANCELLED')),
    currency      text        NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    total_minor   bigint      NOT NULL CHECK (total_minor > 0),
    version       bigint      NOT NULL CHECK (version > 0),
    cancel_reason text        NOT NULL DEFAULT '',
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    CHECK (cancel_reason = '' OR status = 'CANCELLED')
);

-- Ids are UUIDv7: newest first is the order of ids, and pages continue after an id. Each kind of
-- list has its index, so that a page costs the same however many orders an owner has.
CREATE INDEX orders_owner ON orders (owner, id DESC);
CREATE INDEX orders_customer ON orders (owner, customer_id, id DESC);
CREATE INDEX orders_status ON orders (owner, status, id DESC);

CREATE TABLE order_items (
    order_id    uuid     NOT NULL REFERENCES orders,
    position    smallint NOT NULL CHECK (position > 0),
    sku         text     NOT NULL,
    quantity    int      NOT NULL CHECK (quantity > 0),
    price_minor bigint   NOT NULL CHECK (price_minor > 0),
    PRIMARY KEY (order_id, position)
);

-- The row is written before the order is, to let one of two equal requests wait for the other;
-- hence no foreign key.
CREATE TABLE idempotency_keys (
    owner        text        NOT NULL,
    key          text        NOT NULL,
    request_hash bytea       NOT NULL CHECK (octet_length(request_hash) = 32),
    order_id     uuid        NOT NULL,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (owner, key)
);

CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);
