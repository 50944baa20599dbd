package sagapg

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/saga"
)

// Change is what an action has done to a saga.
type Change struct {
	ID      uuid.UUID `json:"id"`
	Name    string    `json:"saga"`
	Version int       `json:"version"`
	Action  string    `json:"action"`
	// From and To say where the saga was and is, as "running at reserve-stock".
	From string `json:"from"`
	To   string `json:"to"`
	// Status is that of the saga now.
	Status string `json:"status"`
	// Interrupted names the worker that was at work on the saga: a call of it may have been
	// on its way, whose outcome counts as unknown.
	Interrupted string `json:"interrupted,omitempty"`
}

// lockTimeout is how long an action waits for a step that holds the saga by [Guard], or for
// its runner, which stores a result.
const lockTimeout = 3 * time.Second

// Retry has the step at hand tried again at once, with all its attempts; of a saga that
// needs an operator, what it was needed for, in the direction in which it was going. A call
// that is on its way is not waited for: its outcome counts as unknown.
func (o *Operator) Retry(ctx context.Context, id uuid.UUID, by Act) (Change, error) {
	return o.act(ctx, "retry", id, by, retry)
}

// Compensate has the saga undone, which its pivot ends. At a pivot with an unknown outcome
// it takes the operator's word for it that the pivot has not happened and never will.
func (o *Operator) Compensate(ctx context.Context, id uuid.UUID, by Act) (Change, error) {
	return o.act(ctx, "compensate", id, by, compensate)
}

// Skip takes the operator's word for it that the steps at hand are done, or undone, and goes
// on with the next. What is taken for done is undone if the saga is.
func (o *Operator) Skip(ctx context.Context, id uuid.UUID, by Act) (Change, error) {
	return o.act(ctx, "skip", id, by, skip)
}

// Resolve ends the saga where it is. Nothing of it happens any more: what it has done and
// not done somebody has put in order by hand.
func (o *Operator) Resolve(ctx context.Context, id uuid.UUID, by Act) (Change, error) {
	return o.act(ctx, "resolve", id, by, resolve)
}

// SetData replaces the state of the saga, a JSON object, and goes on as Retry. Calls keep
// their keys: what a step has had done under its key stays as it was asked for first.
func (o *Operator) SetData(ctx context.Context, id uuid.UUID, data []byte, by Act) (Change, error) {
	return o.act(ctx, "set-data", id, by, func(t *target) error { return t.setData(data) })
}

// Signal stores a signal for a saga whose definition waits for one of that name. The saga
// takes it when it comes there.
func (o *Operator) Signal(ctx context.Context, id uuid.UUID, name string, payload []byte, by Act) (Change, error) {
	return o.act(ctx, "signal", id, by, func(t *target) error {
		var names []string
		for _, stage := range t.plan.Stages {
			for _, s := range stage.Steps {
				if s.Kind == saga.KindWait {
					names = append(names, s.Name)
				}
			}
		}
		if !slices.Contains(names, name) {
			return fmt.Errorf("%w: saga %s waits for no signal %q, but for %s", ErrInvalid, t.plan.Name, name, orNone(names))
		}
		t.signal, t.detail = &signal{payload: payload}, fmt.Sprintf("; %s with %d bytes", name, len(payload))
		t.signalName = name
		return nil
	})
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// target is a saga that an operator decides about. Its row is locked.
type target struct {
	*row

	plan       saga.Plan
	instance   saga.Instance
	broken     error // why the progress does not fit the plan
	by         Act
	signal     *signal // for the saga, which goes on without noticing
	signalName string
	detail     string // for the journal
}

// decision changes the instance, or says why it must not be changed.
type decision func(t *target) error

func (t *target) next(e saga.Event) {
	e.Signal = t.Signaled
	t.instance, _ = t.plan.Next(t.ID.String(), t.instance.WithoutCalls(), e, t.Now)
}

// lose counts calls that may be on their way, and those of processes that were lost before.
func (t *target) lose() {
	lost := int(t.Claims)
	if t.WorkerID != nil {
		lost++
	}
	for range lost {
		t.next(saga.Event{Kind: saga.Lost})
	}
}

// retry gives the steps at hand all their attempts, of which those that are on their way
// take some, and then all again: only what is unknown of them stays.
func retry(t *target) error {
	if at := t.instance.Steps[0]; t.WorkerID == nil && t.instance.Waiting(t.plan) && at.Attempts == 0 {
		step := t.plan.Stages[t.instance.Stage].Steps[0]
		return fmt.Errorf("%w: nothing has failed: it waits for %s until %s: signal it, skip it or compensate", ErrInvalid, step.Name,
			t.shown(&at.NotBefore).Format(time.DateTime))
	}
	t.next(saga.Event{Kind: saga.OperatorRetry})
	backward := t.instance.Backward
	t.lose()
	if t.instance.Backward != backward {
		return t.lastAttempt()
	}
	t.next(saga.Event{Kind: saga.OperatorRetry})
	return nil
}

func (t *target) lastAttempt() error {
	return fmt.Errorf("%w: its only attempt is on its way at %s, and what becomes of it decides: look again when it has come back, or end that process", ErrInvalid, t.saga(t.plan).Worker)
}

func compensate(t *target) error {
	i := t.instance
	switch {
	case i.Backward && i.Status == saga.NeedsOperator:
		return fmt.Errorf("%w: it is being undone and %s cannot be: retry, skip or resolve", ErrInvalid, names(i.Current(t.plan)))
	case i.Backward:
		return fmt.Errorf("%w: it is being undone already", ErrInvalid)
	case !t.plan.CanCompensate(i):
		return fmt.Errorf("%w: its pivot has happened, it can only go on: retry, skip or resolve", ErrInvalid)
	}
	needed := i.Status == saga.NeedsOperator
	t.lose()
	if t.instance.Status == saga.NeedsOperator && !needed { // the pivot may be happening
		return t.lastAttempt()
	}
	t.next(saga.Event{Kind: saga.OperatorCompensate, Reason: t.by.Reason})
	return nil
}

// skip needs no account of calls on their way: the word of the operator is taken for them.
func skip(t *target) error {
	t.next(saga.Event{Kind: saga.OperatorSkip})
	return nil
}

// resolve does without the machine, which may not be able to make sense of the saga.
func resolve(t *target) error {
	t.instance.Status, t.instance.Problem = saga.Resolved, t.by.Reason
	return nil
}

func (t *target) setData(data []byte) error {
	var before, after map[string]json.RawMessage
	if err := json.Unmarshal(data, &after); err != nil || after == nil {
		return fmt.Errorf("%w: the state must be a JSON object", ErrInvalid)
	}
	if err := json.Unmarshal(t.Data, &before); err != nil {
		return fmt.Errorf("%w: the state of the saga is no JSON object and cannot be compared", ErrInvalid)
	}
	changes := differences(before, after)
	if len(changes) == 0 {
		return fmt.Errorf("%w: that is its state already: retry goes on with it", ErrInvalid)
	}
	t.Data, t.detail = compact(data), "; "+strings.Join(changes, ", ")
	if t.instance.Waiting(t.plan) && t.WorkerID == nil {
		return nil
	}
	return retry(t)
}

// maxValue bounds what the journal keeps of a value that was changed.
const maxValue = 200

// differences lists the fields that differ, with both values.
func differences(before, after map[string]json.RawMessage) (all []string) {
	fields := maps.Clone(before)
	if fields == nil {
		fields = map[string]json.RawMessage{}
	}
	maps.Copy(fields, after)
	show := func(m map[string]json.RawMessage, field string) string {
		value, there := m[field]
		switch {
		case !there:
			return "nothing"
		case len(value) > maxValue:
			return strings.ToValidUTF8(string(value[:maxValue]), "") + "…"
		}
		return string(value)
	}
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		if !bytes.Equal(compact(before[field]), compact(after[field])) {
			all = append(all, fmt.Sprintf("%s from %s to %s", field, show(before, field), show(after, field)))
		}
	}
	return all
}

// compact returns valid JSON without blanks.
func compact(text []byte) []byte {
	var b bytes.Buffer
	_ = json.Compact(&b, text) // nothing for nothing
	return b.Bytes()
}

// act decides about a saga and journals it, in one transaction.
func (o *Operator) act(ctx context.Context, action string, id uuid.UUID, by Act, decide decision) (Change, error) {
	return o.actIf(ctx, action, id, by, nil, decide)
}

// Why a bulk action leaves a saga alone that it was about.
var (
	errLeft = errors.New("it is not selected any more")
	errOver = errors.New("it is over")
)

// actIf does so if the saga is still one that the filter selects.
func (o *Operator) actIf(ctx context.Context, action string, id uuid.UUID, by Act, still *Filter, decide decision) (c Change, err error) {
	if by.Who == "" || by.Reason == "" {
		return c, fmt.Errorf("%s: %w: say who does it and why", action, ErrInvalid)
	}
	err = postgres.InTx(ctx, o.db, postgres.TxOptions{}, func(tx pgx.Tx) error {
		if err := lock(ctx, tx, id); err != nil {
			return err
		}
		t, err := o.read(ctx, tx, id, still)
		if err != nil {
			return err
		}
		t.by = by
		if c, err = t.decide(action, decide); err != nil {
			return err
		}
		return t.store(ctx, tx, action, c)
	})
	if err != nil {
		return c, fmt.Errorf("%s saga %s: %w", action, id, missing(err))
	}
	return c, nil
}

// lock keeps runners, and the transactions of steps, from the saga.
func lock(ctx context.Context, tx pgx.Tx, id uuid.UUID) error {
	if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL lock_timeout = %d", lockTimeout.Milliseconds())); err != nil {
		return err
	}
	tag, err := tx.Exec(ctx, "SELECT FROM slipway.saga WHERE id = $1 FOR UPDATE", id)
	if postgres.SQLState(err) == codeLockNotAvailable {
		return fmt.Errorf("its step or its runner has it locked for more than %s, nothing was changed: try again: %w", lockTimeout, err)
	}
	if err != nil || tag.RowsAffected() == 1 {
		return err
	}
	var status saga.Status
	err = tx.QueryRow(ctx, "SELECT status FROM slipway.saga_finished WHERE id = $1 ORDER BY finished_at DESC LIMIT 1", id).Scan(&status)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("%w: it never was, or its retention is over", ErrNotFound)
	case err != nil:
		return err
	}
	return fmt.Errorf("%w: %w, it was %s: start another one for what is to be done", ErrInvalid, errOver, status)
}

// querying is a pool or a transaction.
type querying interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// read returns a saga that is not over, or errLeft if it is not selected.
func (o *Operator) read(ctx context.Context, db querying, id uuid.UUID, still *Filter) (*target, error) {
	f := Filter{}
	if still != nil {
		f = *still
	}
	f.ID = id.String()
	sql, args, err := f.query(whole)
	if err != nil {
		return nil, err
	}
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	t := &target{}
	t.row, err = pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByPos[row])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, errLeft
	}
	if err != nil {
		return nil, err
	}
	var plan string
	if err := db.QueryRow(ctx, "SELECT plan FROM slipway.saga_definition WHERE id = $1", t.Definition).Scan(&plan); err != nil {
		return nil, err
	}
	if err := decodePlan(plan, &t.plan); err != nil {
		return nil, err
	}
	t.instance, t.broken = t.row.instance(t.plan)
	return t, nil
}

// decide returns what the decision does.
func (t *target) decide(action string, decide decision) (Change, error) {
	c := Change{ID: t.ID, Name: t.plan.Name, Version: t.plan.Version, Action: action, From: t.where()}
	if t.broken != nil && action != "resolve" {
		return c, fmt.Errorf("%w: %w: only resolve helps", ErrInvalid, t.broken)
	}
	if err := decide(t); err != nil {
		return c, err
	}
	t.instance = t.instance.WithoutCalls()
	c.To, c.Status = t.where(), t.instance.Status.String()
	if t.WorkerID != nil && t.signal == nil {
		c.Interrupted = t.saga(t.plan).Worker
	}
	return c, nil
}

// where says where the saga is.
func (t *target) where() string {
	at := t.instance.Status.String()
	if t.broken != nil || t.instance.Status.Final() {
		return at
	}
	if t.instance.Waiting(t.plan) {
		at = "waiting"
	}
	return at + " at " + names(t.instance.Current(t.plan))
}

func names(steps []string) string { return strings.Join(steps, ", ") }
