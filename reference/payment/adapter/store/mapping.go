package store

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/slipwayhq/slipway/reference/payment/adapter/store/sqlc"
	"github.com/slipwayhq/slipway/reference/payment/domain"
)

func insertRow(s domain.Snapshot, rest time.Duration) (sqlc.InsertPaymentParams, error) {
	id, err := uuid.Parse(s.ID)
	if err != nil {
		return sqlc.InsertPaymentParams{}, fmt.Errorf("parse payment id: %w", err)
	}
	order, err := uuid.Parse(s.OrderID)
	if err != nil {
		return sqlc.InsertPaymentParams{}, fmt.Errorf("parse order id: %w", err)
	}
	return sqlc.InsertPaymentParams{
		ID:             id,
		IdempotencyKey: s.Key,
		OrderID:        order,
		Status:         string(s.Status),
		Currency:       s.Amount.Currency,
		AmountMinor:    s.Amount.Minor,
		Version:        s.Version,
		CreatedAt:      s.CreatedAt,
		UpdatedAt:      s.UpdatedAt,
		Rest:           rest,
	}, nil
}

func updateRow(loaded, changed domain.Snapshot, rest time.Duration) sqlc.UpdatePaymentParams {
	return sqlc.UpdatePaymentParams{
		ID:            uuid.MustParse(loaded.ID),
		LoadedVersion: loaded.Version,
		Status:        string(changed.Status),
		DeclineReason: changed.DeclineReason,
		RefundReason:  changed.RefundReason,
		Version:       changed.Version,
		UpdatedAt:     changed.UpdatedAt,
		InDoubt:       changed.InDoubt,
		Unsettled:     changed.Unsettled(),
		Rest:          rest,
	}
}

func snapshot(row sqlc.Payment) domain.Snapshot {
	return domain.Snapshot{
		ID:            row.ID.String(),
		Key:           row.IdempotencyKey,
		OrderID:       row.OrderID.String(),
		Status:        domain.Status(row.Status),
		Amount:        domain.Money{Currency: row.Currency, Minor: row.AmountMinor},
		DeclineReason: row.DeclineReason,
		RefundReason:  row.RefundReason,
		InDoubt:       row.InDoubtSince != nil,
		Version:       row.Version,
		CreatedAt:     row.CreatedAt.UTC(),
		UpdatedAt:     row.UpdatedAt.UTC(),
	}
}

func claimedSnapshot(row sqlc.ClaimPaymentsRow) domain.Snapshot {
	return snapshot(sqlc.Payment{
		ID: row.ID, IdempotencyKey: row.IdempotencyKey, OrderID: row.OrderID, Status: row.Status,
		Currency: row.Currency, AmountMinor: row.AmountMinor, DeclineReason: row.DeclineReason, RefundReason: row.RefundReason,
		Version: row.Version, CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt, InDoubtSince: row.InDoubtSince,
	})
}
