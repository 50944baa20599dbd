package store

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/slipwayhq/slipway/reference/order/adapter/store/sqlc"
	"github.com/slipwayhq/slipway/reference/order/domain"
)

func orderRow(s domain.Snapshot) (sqlc.InsertOrderParams, error) {
	id, err := uuid.Parse(s.ID)
	if err != nil {
		return sqlc.InsertOrderParams{}, fmt.Errorf("parse order id: %w", err)
	}
	return sqlc.InsertOrderParams{
		ID:           id,
		Owner:        s.Owner,
		CustomerID:   s.CustomerID,
		Status:       string(s.Status),
		Currency:     s.Total.Currency,
		TotalMinor:   s.Total.Minor,
		Version:      s.Version,
		CancelReason: s.CancelReason,
		CreatedAt:    s.CreatedAt,
		UpdatedAt:    s.UpdatedAt,
	}, nil
}

func itemRows(orderID uuid.UUID, items []domain.Item) sqlc.InsertItemsParams {
	rows := sqlc.InsertItemsParams{OrderID: orderID}
	for i, item := range items {
		rows.Positions = append(rows.Positions, int16(i+1))
		rows.Skus = append(rows.Skus, item.SKU)
		rows.Quantities = append(rows.Quantities, item.Quantity)
		rows.Prices = append(rows.Prices, item.UnitPrice.Minor)
	}
	return rows
}

// snapshots puts orders and their items together, in the order of the rows.
func snapshots(rows []sqlc.Order, items []sqlc.OrderItem) []domain.Snapshot {
	itemsOf := make(map[uuid.UUID][]sqlc.OrderItem, len(rows))
	for _, item := range items {
		itemsOf[item.OrderID] = append(itemsOf[item.OrderID], item)
	}
	all := make([]domain.Snapshot, len(rows))
	for i, row := range rows {
		all[i] = domain.Snapshot{
			ID:           row.ID.String(),
			Owner:        row.Owner,
			CustomerID:   row.CustomerID,
			Status:       domain.Status(row.Status),
			Total:        domain.Money{Currency: row.Currency, Minor: row.TotalMinor},
			Version:      row.Version,
			CreatedAt:    row.CreatedAt.UTC(),
			UpdatedAt:    row.UpdatedAt.UTC(),
			CancelReason: row.CancelReason,
		}
		for _, item := range itemsOf[row.ID] {
			all[i].Items = append(all[i].Items, domain.Item{
				SKU:       item.Sku,
				Quantity:  item.Quantity,
				UnitPrice: domain.Money{Currency: row.Currency, Minor: item.PriceMinor},
			})
		}
	}
	return all
}
