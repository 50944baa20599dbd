package sagapg

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipwayhq/slipway/platform/saga"
)

// Operator looks at sagas and decides about those that do not get on. It needs neither a
// runner nor the program that defined them: what it decides, the next runner goes on with,
// within its Poll. Every change is journaled in its own transaction. Times are those of the
// database's clock. Safe for concurrent use, beside runners and without any.
type Operator struct{ db *pgxpool.Pool }

// NewOperator returns an operator of the sagas in a database.
func NewOperator(db *pgxpool.Pool) *Operator { return &Operator{db: db} }

// Act says who does something and why. Both are required: they go to the journal.
type Act struct{ Who, Reason string }

var (
	// ErrNotFound is in the error for a saga that is not there, or not any more.
	ErrNotFound = errors.New("not found")
	// ErrInvalid is in the error of an action that lacks what it needs, or that its saga does
	// not allow. The text says what helps.
	ErrInvalid = errors.New("invalid action")
)

// Filter selects sagas. The zero value selects all that are not over.
type Filter struct {
	// Stuck selects those that do not get on.
	Stuck bool
	// Reasons selects those that are stuck for one of them, as [StuckRetrying].
	Reasons []string
	// Name and Version are those of the definition. Empty and 0 mean all.
	Name    string
	Version int
	// Status is the name of one. Empty means all that are not final; a final one selects
	// among the sagas that are over, which are kept for the retention.
	Status string
	// Since selects those that were started then or later.
	Since time.Time
	// ID is how the id begins.
	ID string
	// Limit is how many, by their ids: UUIDs of version 7 are in order of time. 0 means 100;
	// a bulk action takes all then.
	Limit int
}

// Saga is how one saga is doing.
type Saga struct {
	ID      uuid.UUID `json:"id"`
	Name    string    `json:"saga"`
	Version int       `json:"version"`
	Status  string    `json:"status"`
	// Backward tells that it is undone.
	Backward bool `json:"backward"`
	// Stuck says why it does not get on. Empty if it does.
	Stuck string `json:"stuck,omitempty"`
	// Steps are the names of the steps at hand, of their undos if it is undone.
	Steps []string `json:"steps,omitempty"`
	// WaitsFor is the signal or the timer that it waits for.
	WaitsFor string `json:"waits_for,omitempty"`
	// Worker is the process that runs it. Empty while it rests.
	Worker string `json:"worker,omitempty"`
	// Reason is why it is undone, Problem what went wrong last.
	Reason    string    `json:"reason,omitempty"`
	Problem   string    `json:"problem,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
	// NextRunAt is when somebody goes on with it. Nil while somebody does, and if only a
	// signal or an operator helps.
	NextRunAt    *time.Time `json:"next_run_at,omitempty"`
	Deadline     *time.Time `json:"deadline,omitempty"`
	FailingSince *time.Time `json:"failing_since,omitempty"`
	FinishedAt   *time.Time `json:"finished_at,omitempty"`
}

// row is a saga as it is stored, also one that is over.
type row struct {
	ID            uuid.UUID
	Definition    int32
	Status, Stage int16
	Backward      bool
	Steps         []byte
	WorkerID      *int64
	Worker        string
	Claims        int32
	WaitsFor      *string
	Signaled      bool
	CreatedAt     time.Time
	UpdatedAt     time.Time
	NextRunAt     *time.Time
	Deadline      *time.Time
	FailingSince  *time.Time
	FinishedAt    *time.Time
	Reason        string
	Problem       string
	Why           string
	Adjust        time.Duration // of the time of sagas against the database's clock
	Now           time.Time
	Data          []byte
	Headers       string
}

// What row holds, of a saga that runs and of one that is over. %s is why it is stuck, and
// what only some need.
const (
	activeColumns = `SELECT s.id, s.definition, s.status, s.stage, s.backward, s.steps, s.owner,
    coalesce((SELECT w.name FROM slipway.saga_worker w WHERE w.id = s.owner), ''), s.claims, s.waits_for,
    EXISTS (SELECT FROM slipway.saga_signal g WHERE g.saga_id = s.id AND g.name = s.waits_for),
    s.created_at, s.updated_at, s.next_run_at, s.deadline, s.failing_since, NULL::timestamptz, s.reason, s.problem,
    %s, c.adjust, clock_timestamp() + c.adjust, %s
FROM slipway.saga s JOIN slipway.saga_definition d ON d.id = s.definition CROSS JOIN slipway.saga_clock c`

	finishedColumns = `SELECT s.id, s.definition, s.status, s.stage, s.backward, ''::bytea, NULL::bigint, '', 0, NULL::text, false,
    s.created_at, s.finished_at, NULL::timestamptz, NULL::timestamptz, NULL::timestamptz, s.finished_at, s.reason, s.problem,
    '', c.adjust, clock_timestamp() + c.adjust, %s
FROM slipway.saga_finished s JOIN slipway.saga_definition d ON d.id = s.definition CROSS JOIN slipway.saga_clock c`

	whole = "s.data, s.headers"
	brief = "''::bytea, ''"

	selected = ` WHERE s.id BETWEEN $1 AND $2 AND ($3 = '' OR d.name = $3) AND ($4 = 0 OR d.version = $4)
    AND ($5 < 0 OR s.status = $5) AND ($6::timestamptz IS NULL OR s.created_at - c.adjust >= $6)`
)

// Validate reports what is wrong with the filter.
func (f Filter) Validate() error {
	_, _, err := f.query(brief)
	return err
}

// query returns the statement that selects, and its arguments. more are further columns.
func (f Filter) query(more string) (sql string, args []any, err error) {
	low, high, err := idRange(f.ID)
	if err != nil {
		return "", nil, err
	}
	status, known := saga.StatusOf(f.Status)
	if !known && f.Status != "" {
		return "", nil, fmt.Errorf("%w: there is no status %q", ErrInvalid, f.Status)
	}
	args = []any{low, high, f.Name, f.Version, -1, optional(f.Since)}
	if known {
		args[4] = int(status)
	}
	stuck := f.Stuck || len(f.Reasons) > 0
	switch {
	case known && status.Final() && stuck:
		return "", nil, fmt.Errorf("%w: what is %s is not stuck", ErrInvalid, f.Status)
	case known && status.Final():
		return fmt.Sprintf(finishedColumns, more) + selected, args, nil
	}
	sql, join := "WITH "+stuckSQL+" "+fmt.Sprintf(activeColumns, "coalesce(k.why, '')", more), " LEFT JOIN stuck k ON k.id = s.id"
	if stuck {
		join = " JOIN stuck k ON k.id = s.id"
	}
	sql += join + selected
	if len(f.Reasons) > 0 {
		sql, args = sql+" AND k.why = ANY ($7)", append(args, f.Reasons)
	}
	return sql, args, nil
}

// idRange returns the first and the last id that begin so.
func idRange(prefix string) (low, high uuid.UUID, err error) {
	digits := strings.ReplaceAll(prefix, "-", "")
	if len(digits) <= 32 {
		low, err = uuid.Parse(digits + strings.Repeat("0", 32-len(digits)))
		high, _ = uuid.Parse(digits + strings.Repeat("f", 32-len(digits)))
	}
	if err != nil || len(digits) > 32 {
		return low, high, fmt.Errorf("%w: no saga's id begins with %q: ids are UUIDs", ErrInvalid, prefix)
	}
	return low, high, nil
}

// List returns how sagas are doing, the oldest first if their ids are UUIDs of version 7.
func (o *Operator) List(ctx context.Context, f Filter) ([]Saga, error) {
	sql, args, err := f.query(brief)
	if err != nil {
		return nil, fmt.Errorf("list sagas: %w", err)
	}
	rows, err := o.db.Query(ctx, fmt.Sprintf("%s ORDER BY s.id LIMIT %d", sql, cmp.Or(f.Limit, 100)), args...)
	if err != nil {
		return nil, fmt.Errorf("list sagas: %w", missing(err))
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	if err != nil {
		return nil, fmt.Errorf("list sagas: %w", missing(err))
	}
	plans, err := o.plans(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]Saga, len(found))
	for i, r := range found {
		all[i] = r.saga(plans[r.Definition])
	}
	return all, nil
}

// plans returns the plans of all definitions.
func (o *Operator) plans(ctx context.Context) (map[int32]saga.Plan, error) {
	rows, err := o.db.Query(ctx, "SELECT id, plan FROM slipway.saga_definition")
	if err != nil {
		return nil, fmt.Errorf("read definitions of sagas: %w", missing(err))
	}
	plans := map[int32]saga.Plan{}
	var id int32
	var text string
	_, err = pgx.ForEachRow(rows, []any{&id, &text}, func() error {
		var p saga.Plan
		err := decodePlan(text, &p)
		plans[id] = p
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read definitions of sagas: %w", missing(err))
	}
	return plans, nil
}

func decodePlan(text string, p *saga.Plan) error {
	if err := json.Unmarshal([]byte(text), p); err != nil {
		return fmt.Errorf("decode definition: %w", err)
	}
	return nil
}

// instance returns the saga as the state machine knows it.
func (r *row) instance(p saga.Plan) (saga.Instance, error) {
	deadline := r.time(r.Deadline)
	if r.Stage < 0 {
		i, _ := p.Start(r.ID.String(), r.Now)
		i.Deadline = deadline
		return i.WithoutCalls(), nil
	}
	i := saga.Instance{
		Status: saga.Status(r.Status), Backward: r.Backward, Stage: int(r.Stage), Reason: r.Reason, Problem: r.Problem,
		Deadline: deadline, FailingSince: r.time(r.FailingSince),
	}
	return i, i.DecodeSteps(p, r.Steps)
}

func (*row) time(at *time.Time) time.Time {
	if at == nil {
		return time.Time{}
	}
	return *at
}

// saga returns what an operator wants to know. One whose progress does not fit its plan has
// that for its problem.
func (r *row) saga(p saga.Plan) Saga {
	s := Saga{
		ID: r.ID, Name: p.Name, Version: p.Version, Status: saga.Status(r.Status).String(), Backward: r.Backward, Stuck: r.Why,
		Worker: r.Worker, Reason: r.Reason, Problem: r.Problem, CreatedAt: r.CreatedAt.Add(-r.Adjust), UpdatedAt: r.UpdatedAt.Add(-r.Adjust),
		NextRunAt: r.shown(r.NextRunAt), Deadline: r.shown(r.Deadline), FailingSince: r.shown(r.FailingSince), FinishedAt: r.shown(r.FinishedAt),
	}
	if r.WorkerID != nil {
		s.Worker = cmp.Or(s.Worker, fmt.Sprintf("worker %d", *r.WorkerID))
	}
	if saga.Status(r.Status).Final() {
		return s
	}
	i, err := r.instance(p)
	if err != nil {
		s.Problem = err.Error()
		return s
	}
	s.Steps = i.Current(p)
	if i.Waiting(p) {
		s.WaitsFor = p.Stages[i.Stage].Steps[0].Name
	}
	return s
}

// shown returns a time of sagas by the database's clock.
func (r *row) shown(at *time.Time) *time.Time {
	if at == nil {
		return nil
	}
	t := at.Add(-r.Adjust)
	return &t
}

// JournalEntry is something that an operator did.
type JournalEntry struct {
	At time.Time `json:"at"`
	// SagaID is nil for what is about many.
	SagaID *uuid.UUID `json:"saga_id,omitempty"`
	Who    string     `json:"who"`
	Action string     `json:"action"`
	Reason string     `json:"reason"`
	Detail string     `json:"detail"`
}

const selectActions = "SELECT at, saga_id, who, action, reason, detail FROM slipway.saga_action "

// Journal returns what operators did last, the latest first.
func (o *Operator) Journal(ctx context.Context, limit int) ([]JournalEntry, error) {
	return o.actions(ctx, selectActions+"ORDER BY entry DESC LIMIT $1", limit)
}

func (o *Operator) actions(ctx context.Context, sql string, args ...any) ([]JournalEntry, error) {
	rows, err := o.db.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read journal of operators: %w", missing(err))
	}
	entries, err := pgx.CollectRows(rows, pgx.RowToStructByPos[JournalEntry])
	if err != nil {
		return nil, fmt.Errorf("read journal of operators: %w", missing(err))
	}
	return entries, nil
}
