-- name: InsertPayment :execrows
INSERT INTO payments (id, idempotency_key, order_id, status, currency, amount_minor, version, created_at, updated_at, look_at)
VALUES (@id, @idempotency_key, @order_id, @status, @currency, @amount_minor, @version, @created_at, @updated_at,
    clock_timestamp() + @rest::interval)
ON CONFLICT DO NOTHING;

-- name: UpdatePayment :execrows
UPDATE payments
SET status = @status, decline_reason = @decline_reason, refund_reason = @refund_reason, version = @version, updated_at = @updated_at,
    in_doubt_since = CASE WHEN @in_doubt::bool THEN clock_timestamp() END,
    look_at = CASE WHEN NOT @unsettled::bool THEN NULL WHEN status = @status THEN look_at ELSE clock_timestamp() + @rest::interval END,
    looks = CASE WHEN status = @status THEN looks ELSE 0 END
WHERE id = @id AND version = @loaded_version;

-- name: GetPayment :one
SELECT * FROM payments WHERE id = @id;

-- name: GetPaymentOfKey :one
SELECT * FROM payments WHERE idempotency_key = @idempotency_key;

-- name: GetPaymentOfOrder :one
SELECT * FROM payments WHERE order_id = @order_id;

-- name: ClaimPayments :many
WITH due AS (
    SELECT id FROM payments WHERE look_at <= clock_timestamp() ORDER BY look_at LIMIT @max_rows FOR UPDATE SKIP LOCKED
)
UPDATE payments
SET looks = looks + 1,
    look_at = clock_timestamp() + least(sqlc.arg(pause)::interval * (2 ^ least(looks, 30)), sqlc.arg(longest_pause)::interval)
FROM due
WHERE payments.id = due.id
RETURNING payments.*, coalesce(payments.in_doubt_since + @watch::interval < clock_timestamp(), false)::bool AS watched;
