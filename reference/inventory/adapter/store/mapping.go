package store

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/slipwayhq/slipway/reference/inventory/adapter/store/sqlc"
	"github.com/slipwayhq/slipway/reference/inventory/domain"
)

func insertRow(s domain.Snapshot) (sqlc.InsertReservationParams, error) {
	id, err := uuid.Parse(s.ID)
	if err != nil {
		return sqlc.InsertReservationParams{}, fmt.Errorf("parse reservation id: %w", err)
	}
	order, err := uuid.Parse(s.OrderID)
	if err != nil {
		return sqlc.InsertReservationParams{}, fmt.Errorf("parse order id: %w", err)
	}
	row := sqlc.InsertReservationParams{
		ID:             id,
		IdempotencyKey: s.Key,
		OrderID:        order,
		Status:         string(s.Status),
		Version:        s.Version,
		CreatedAt:      s.CreatedAt,
		UpdatedAt:      s.UpdatedAt,
	}
	for _, l := range s.Lines {
		row.Skus, row.Quantities = append(row.Skus, l.SKU), append(row.Quantities, l.Quantity)
	}
	return row, nil
}

func moveRow(s domain.Snapshot, movements []domain.Movement) sqlc.MoveStockParams {
	row := sqlc.MoveStockParams{UpdatedAt: s.UpdatedAt}
	for _, m := range movements {
		row.Skus, row.OnHand = append(row.Skus, m.SKU), append(row.OnHand, m.OnHand)
		row.Reserved, row.Committed = append(row.Reserved, m.Reserved), append(row.Committed, m.Committed)
	}
	return row
}

func snapshot(row sqlc.LockReservationOfKeyRow) domain.Snapshot {
	s := domain.Snapshot{
		ID:        row.Reservation.ID.String(),
		Key:       row.Reservation.IdempotencyKey,
		OrderID:   row.Reservation.OrderID.String(),
		Status:    domain.Status(row.Reservation.Status),
		Version:   row.Reservation.Version,
		CreatedAt: row.Reservation.CreatedAt.UTC(),
		UpdatedAt: row.Reservation.UpdatedAt.UTC(),
	}
	for i, sku := range row.Skus {
		s.Lines = append(s.Lines, domain.Line{SKU: sku, Quantity: row.Quantities[i]})
	}
	return s
}

func stock(row sqlc.Stock) domain.Stock {
	return domain.Stock{
		SKU: row.Sku, OnHand: row.OnHand, Reserved: row.Reserved, Committed: row.Committed,
		Version: row.Version, UpdatedAt: row.UpdatedAt.UTC(),
	}
}
