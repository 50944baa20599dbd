package command

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Since is a point in time, or how long ago it was.
type Since struct {
	at  time.Time
	ago time.Duration
}

// ParseSince reads what the flag --since says.
func ParseSince(text string) (Since, error) {
	if text == "" {
		return Since{}, Usagef("--since is missing: a time as 2026-11-23T09:30:00Z, or how long ago as 2h")
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return Since{at: at}, nil
	}
	ago, err := time.ParseDuration(text)
	if err != nil || ago <= 0 {
		return Since{}, Usagef("--since %s: want a time as 2026-11-23T09:30:00Z, or how long ago as 2h or 90m", text)
	}
	return Since{ago: ago}, nil
}

// On returns the time by the clock of the database: it is the one that things are stored by.
func (s Since) On(ctx context.Context, db *pgxpool.Pool) (time.Time, error) {
	var now time.Time
	if err := db.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
		return now, fmt.Errorf("ask for the time: %w", err)
	}
	switch {
	case s.ago > 0:
		return now.Add(-s.ago).UTC(), nil
	case s.at.After(now):
		return now, Usagef("--since %s is in the future", s.at.Format(time.RFC3339))
	}
	return s.at, nil
}
