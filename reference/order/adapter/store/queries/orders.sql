-- name: InsertOrder :exec
INSERT INTO orders (id, owner, customer_id, status, currency, total_minor, version, cancel_reason, created_at, updated_at)
VALUES (@id, @owner, @customer_id, @status, @currency, @total_minor, @version, @cancel_reason, @created_at, @updated_at);

-- name: InsertItems :exec
INSERT INTO order_items (order_id, position, sku, quantity, price_minor)
SELECT @order_id, unnest(@positions::smallint[]), unnest(@skus::text[]), unnest(@quantities::int[]), unnest(@prices::bigint[]);

-- name: UpdateOrder :execrows
UPDATE orders
SET status = @status, version = @version, cancel_reason = @cancel_reason, updated_at = @updated_at
WHERE id = @id AND version = @loaded_version;

-- name: GetOrder :one
SELECT * FROM orders WHERE id = @id AND owner = @owner;

-- name: LockOrder :one
SELECT * FROM orders WHERE id = @id AND owner = @owner FOR NO KEY UPDATE;

-- One statement for each kind of list. With all conditions optional in a single one, an index could
-- serve it only while the server plans every call anew.

-- name: ListOrders :many
SELECT * FROM orders
WHERE owner = @owner AND id < @before
ORDER BY id DESC
LIMIT @max_rows;

-- name: ListOrdersInStatus :many
SELECT * FROM orders
WHERE owner = @owner AND status = @status AND id < @before
ORDER BY id DESC
LIMIT @max_rows;

-- name: ListOrdersOfCustomer :many
SELECT * FROM orders
WHERE owner = @owner AND customer_id = @customer_id AND id < @before
  AND (@status::text = '' OR status = @status)
ORDER BY id DESC
LIMIT @max_rows;

-- name: ItemsOfOrders :many
SELECT * FROM order_items WHERE order_id = ANY(@order_ids::uuid[]) ORDER BY order_id, position;

-- name: VersionsOfOrders :many
SELECT id, version FROM orders WHERE id = ANY(@ids::uuid[]);
