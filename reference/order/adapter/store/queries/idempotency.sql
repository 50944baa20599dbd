-- name: ClaimKey :execrows
INSERT INTO idempotency_keys (owner, key, request_hash, order_id, created_at)
VALUES (@owner, @key, @request_hash, @order_id, @created_at)
ON CONFLICT (owner, key) DO NOTHING;

-- name: GetKey :one
SELECT request_hash, order_id FROM idempotency_keys WHERE owner = @owner AND key = @key;

-- name: DeleteKeysBefore :execrows
DELETE FROM idempotency_keys
WHERE (owner, key) IN (
    SELECT k.owner, k.key FROM idempotency_keys AS k WHERE k.created_at < @before ORDER BY k.created_at LIMIT @max_rows
);
