package sagapg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Bulk is one action on many sagas.
type Bulk struct {
	// Action is retry, compensate, skip or resolve.
	Action string
	// Filter selects the sagas. It must say more than Limit.
	Filter Filter
	// Rate is how many sagas a second at most. 0 is as many as it can.
	Rate float64
	// Preview changes nothing: it tells what would happen.
	Preview bool
}

// BulkResult is what has come of a bulk action.
type BulkResult struct {
	// Selected counts the sagas that the filter selected at the start.
	Selected int `json:"selected"`
	// Changed counts those that the action has changed, or would change; Left those that the
	// filter selected no longer when it was their turn.
	Changed int `json:"changed"`
	Left    int `json:"left"`
	// Moves counts the changes by saga and what happened, the most frequent first.
	Moves []Move `json:"moves"`
	// Refused are those that do not allow the action.
	Refused []Refusal `json:"refused"`
}

// Move is a change that sagas of a definition have in common.
type Move struct {
	Name    string `json:"saga"`
	Version int    `json:"version"`
	From    string `json:"from"`
	To      string `json:"to"`
	Count   int    `json:"count"`
}

// Refusal is a saga with the reason why an action was refused.
type Refusal struct {
	ID    uuid.UUID `json:"id"`
	Error string    `json:"error"`
}

var bulkActions = map[string]decision{"retry": retry, "compensate": compensate, "skip": skip, "resolve": resolve}

// Validate reports what is wrong with the action or its filter.
func (b Bulk) Validate() error {
	f := b.Filter
	switch {
	case bulkActions[b.Action] == nil:
		return fmt.Errorf("%w: there is no bulk action %q: choose from %s", ErrInvalid, b.Action,
			strings.Join(slices.Sorted(maps.Keys(bulkActions)), ", "))
	case len(f.Reasons) == 0 && !f.Stuck && f.Name == "" && f.Status == "" && f.ID == "" && f.Since.IsZero():
		return fmt.Errorf("%w: a filter that selects every saga: narrow it down", ErrInvalid)
	case b.Rate < 0:
		return fmt.Errorf("%w: rate %g is negative", ErrInvalid, b.Rate)
	}
	return f.Validate()
}

// Bulk does the same to every saga that the filter selects at its start, each in a
// transaction of its own and only if it is still selected then. One that refuses the action
// does not hold up the others. seen, which may be nil, is told of each saga as it is done
// with. It ends early, with what it has done so far, when ctx ends or the database is away.
func (o *Operator) Bulk(ctx context.Context, b Bulk, by Act, seen func(BulkResult)) (BulkResult, error) {
	var done BulkResult
	if err := b.Validate(); err != nil {
		return done, fmt.Errorf("bulk: %w", err)
	}
	ids, err := o.selectIDs(ctx, b.Filter)
	if err != nil {
		return done, fmt.Errorf("bulk %s: %w", b.Action, missing(err))
	}
	done.Selected = len(ids)
	if err := o.announce(ctx, b, by, len(ids)); err != nil {
		return done, err
	}
	moves := map[Move]int{}
	pace := pacer(b)
	defer pace.Stop()
	for n, id := range ids {
		if n > 0 && b.Rate > 0 && !b.Preview {
			select {
			case <-pace.C:
			case <-ctx.Done():
			}
		}
		c, err := o.one(ctx, b, id, by)
		switch {
		case err == nil:
			done.Changed++
			moves[Move{Name: c.Name, Version: c.Version, From: c.From, To: c.To}]++
		case errors.Is(err, errLeft), errors.Is(err, errOver), errors.Is(err, ErrNotFound):
			done.Left++
		case errors.Is(err, ErrInvalid):
			done.Refused = append(done.Refused, Refusal{ID: id, Error: err.Error()})
		default:
			return done.with(moves), fmt.Errorf("bulk %s, after %d of %d: %w", b.Action, n, len(ids), err)
		}
		if seen != nil {
			seen(done)
		}
	}
	return done.with(moves), nil
}

// pacer ticks at the rate.
func pacer(b Bulk) *time.Ticker {
	every := time.Hour
	if b.Rate > 0 {
		every = max(time.Duration(float64(time.Second)/b.Rate), time.Microsecond)
	}
	return time.NewTicker(every)
}

func (o *Operator) one(ctx context.Context, b Bulk, id uuid.UUID, by Act) (Change, error) {
	if !b.Preview {
		return o.actIf(ctx, b.Action, id, by, &b.Filter, bulkActions[b.Action])
	}
	t, err := o.read(ctx, o.db, id, &b.Filter)
	if err != nil {
		return Change{}, err
	}
	t.by = by
	c, err := t.decide(b.Action, bulkActions[b.Action])
	if err != nil {
		return c, fmt.Errorf("%s saga %s: %w", b.Action, id, err)
	}
	return c, nil
}

// announce journals what is begun.
func (o *Operator) announce(ctx context.Context, b Bulk, by Act, n int) error {
	if b.Preview {
		return nil
	}
	if by.Who == "" || by.Reason == "" {
		return fmt.Errorf("bulk: %w: say who does it and why", ErrInvalid)
	}
	if _, err := o.db.Exec(ctx, insertAction, nil, by.Who, "bulk", by.Reason, fmt.Sprintf("%s of %d: %s", b.Action, n, b.Filter)); err != nil {
		return fmt.Errorf("bulk: write journal: %w", err)
	}
	return nil
}

// Count returns how many sagas a filter selects, whatever its limit.
func (o *Operator) Count(ctx context.Context, f Filter) (n int64, err error) {
	sql, args, err := f.query(brief)
	if err != nil {
		return 0, fmt.Errorf("count sagas: %w", err)
	}
	if err := o.db.QueryRow(ctx, "SELECT count(*) FROM ("+sql+") AS s (id)", args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("count sagas: %w", missing(err))
	}
	return n, nil
}

func (o *Operator) selectIDs(ctx context.Context, f Filter) ([]uuid.UUID, error) {
	sql, args, err := f.query(brief)
	if err != nil {
		return nil, err
	}
	sql = "SELECT id FROM (" + sql + ") AS s (id) ORDER BY id"
	if f.Limit > 0 {
		sql += fmt.Sprintf(" LIMIT %d", f.Limit)
	}
	rows, err := o.db.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// String says what is selected, for the journal.
func (f Filter) String() string {
	var parts []string
	add := func(set bool, format string, args ...any) {
		if set {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(f.Stuck && len(f.Reasons) == 0, "stuck")
	add(len(f.Reasons) > 0, "stuck by %s", strings.Join(f.Reasons, " or "))
	add(f.Name != "", "saga %s", f.Name)
	add(f.Version != 0, "version %d", f.Version)
	add(f.Status != "", "status %s", f.Status)
	add(!f.Since.IsZero(), "since %s", f.Since.UTC().Format(time.RFC3339))
	add(f.ID != "", "id %s…", f.ID)
	add(f.Limit != 0, "at most %d", f.Limit)
	return cmp.Or(strings.Join(parts, ", "), "all")
}

// with returns the result with the moves in order.
func (r BulkResult) with(moves map[Move]int) BulkResult {
	r.Moves, r.Refused = []Move{}, append([]Refusal{}, r.Refused...)
	for m, n := range moves {
		m.Count = n
		r.Moves = append(r.Moves, m)
	}
	slices.SortFunc(r.Moves, func(a, b Move) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version),
			cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	return r
}
