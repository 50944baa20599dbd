-- name: InsertReservation :execrows
WITH inserted AS (
    INSERT INTO reservations (id, idempotency_key, order_id, status, version, created_at, updated_at)
    VALUES (@id, @idempotency_key, @order_id, @status, @version, @created_at, @updated_at)
    ON CONFLICT DO NOTHING
    RETURNING id
)
INSERT INTO reservation_lines (reservation_id, sku, quantity)
SELECT inserted.id, unnest(@skus::text[]), unnest(@quantities::bigint[]) FROM inserted;

-- name: LockReservationOfKey :one
SELECT sqlc.embed(r),
    ARRAY(SELECT l.sku FROM reservation_lines l WHERE l.reservation_id = r.id ORDER BY l.sku)::text[] AS skus,
    ARRAY(SELECT l.quantity FROM reservation_lines l WHERE l.reservation_id = r.id ORDER BY l.sku)::bigint[] AS quantities
FROM reservations r WHERE r.idempotency_key = @idempotency_key FOR UPDATE;

-- name: LockReservationOfOrder :one
SELECT sqlc.embed(r),
    ARRAY(SELECT l.sku FROM reservation_lines l WHERE l.reservation_id = r.id ORDER BY l.sku)::text[] AS skus,
    ARRAY(SELECT l.quantity FROM reservation_lines l WHERE l.reservation_id = r.id ORDER BY l.sku)::bigint[] AS quantities
FROM reservations r WHERE r.order_id = @order_id FOR UPDATE;

-- name: UpdateReservation :exec
UPDATE reservations SET status = @status, version = @version, updated_at = @updated_at WHERE id = @id;

-- name: MoveStock :many
-- Takes the rows in the order of the SKUs, as everybody does, and returns those that have enough.
WITH movement AS (
    SELECT unnest(@skus::text[]) AS sku, unnest(@on_hand::bigint[]) AS on_hand, unnest(@reserved::bigint[]) AS reserved,
        unnest(@committed::bigint[]) AS committed
), locked AS (
    SELECT s.sku FROM stock s WHERE s.sku = ANY (@skus::text[]) ORDER BY s.sku FOR NO KEY UPDATE
)
UPDATE stock
SET on_hand = stock.on_hand + m.on_hand, reserved = stock.reserved + m.reserved, committed = stock.committed + m.committed,
    version = stock.version + 1, updated_at = @updated_at
FROM locked JOIN movement m USING (sku)
WHERE stock.sku = locked.sku AND stock.reserved + m.reserved <= stock.on_hand + m.on_hand
RETURNING stock.sku;

-- name: GetStocks :many
SELECT stock.* FROM unnest(@skus::text[]) WITH ORDINALITY AS wanted (sku, n) JOIN stock USING (sku) ORDER BY wanted.n;

-- name: LockStock :one
SELECT * FROM stock WHERE sku = @sku FOR NO KEY UPDATE;

-- name: InsertStock :execrows
INSERT INTO stock (sku, on_hand, reserved, committed, version, updated_at)
VALUES (@sku, @on_hand, @reserved, @committed, @version, @updated_at)
ON CONFLICT DO NOTHING;

-- name: UpdateStock :exec
UPDATE stock
SET on_hand = @on_hand, reserved = @reserved, committed = @committed, version = @version, updated_at = @updated_at
WHERE sku = @sku;
