package sagapg

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/slipwayhq/slipway/platform/saga"
)

// Detail is all that is known of a saga.
type Detail struct {
	Saga

	Plan     []PlannedStep     `json:"plan"`
	Timeline []TimelineEntry   `json:"timeline"`
	Signals  []WaitingSignal   `json:"signals"`
	Actions  []JournalEntry    `json:"actions"`
	Data     json.RawMessage   `json:"data"`
	Headers  map[string]string `json:"headers"`
}

// PlannedStep is a step with how far it is.
type PlannedStep struct {
	// Stage counts from 1; steps of one stage run in parallel.
	Stage int           `json:"stage"`
	Name  string        `json:"name,omitempty"`
	Kind  saga.StepKind `json:"kind"`
	Undo  string        `json:"undo,omitempty"`
	// State is that of a [saga.StepState], or empty for a step whose turn has not come.
	State string `json:"state,omitempty"`
	// Attempts counts the failed attempts, Unknown says that one may have had its effect.
	Attempts  int        `json:"attempts,omitempty"`
	Unknown   bool       `json:"unknown,omitempty"`
	NotBefore *time.Time `json:"not_before,omitempty"`
	// Current tells that it is at hand.
	Current bool `json:"current,omitempty"`
}

// TimelineEntry is an attempt at a step.
type TimelineEntry struct {
	At      time.Time     `json:"at"` // its end
	Took    time.Duration `json:"took_ns"`
	Worker  int64         `json:"worker"`
	Step    string        `json:"step"`
	Call    string        `json:"call"` // action, verify or undo
	Attempt int           `json:"attempt"`
	Class   string        `json:"class"` // ok, retryable, rejected or unknown
	Error   string        `json:"error,omitempty"`
	TraceID string        `json:"trace_id,omitempty"`
}

// WaitingSignal is one that the saga has not taken yet.
type WaitingSignal struct {
	At      time.Time `json:"at"`
	Name    string    `json:"name"`
	Payload []byte    `json:"payload"`
}

// Show returns all that is known of a saga, also of one that is over.
func (o *Operator) Show(ctx context.Context, id uuid.UUID) (Detail, error) {
	r, err := o.find(ctx, id)
	if err != nil {
		return Detail{}, fmt.Errorf("show saga %s: %w", id, missing(err))
	}
	plans, err := o.plans(ctx)
	if err != nil {
		return Detail{}, err
	}
	p := plans[r.Definition]
	d := Detail{Saga: r.saga(p), Data: json.RawMessage(r.Data), Headers: decodeHeaders(r.Headers)}
	if d.Timeline, err = o.timeline(ctx, r); err != nil {
		return Detail{}, err
	}
	if d.Signals, err = o.signals(ctx, id); err != nil {
		return Detail{}, err
	}
	if d.Actions, err = o.actions(ctx, selectActions+"WHERE saga_id = $1 ORDER BY entry", id); err != nil {
		return Detail{}, err
	}
	d.Plan = r.position(p, d.Timeline)
	return d, nil
}

// find reads a saga that runs, or else one that is over.
func (o *Operator) find(ctx context.Context, id uuid.UUID) (*row, error) {
	active, args, err := Filter{ID: id.String()}.query(whole)
	if err != nil {
		return nil, err
	}
	finished := fmt.Sprintf(finishedColumns, whole) + " WHERE s.id = $1 ORDER BY s.finished_at DESC LIMIT 1"
	for _, q := range []struct {
		sql  string
		args []any
	}{{active, args}, {finished, []any{id}}, {active, args}} { // it may have ended in between, and begun anew
		rows, err := o.db.Query(ctx, q.sql, q.args...)
		if err != nil {
			return nil, err
		}
		r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByPos[row])
		if !errors.Is(err, pgx.ErrNoRows) {
			return r, err
		}
	}
	return nil, fmt.Errorf("%w: it never was, or its retention is over", ErrNotFound)
}

func (o *Operator) timeline(ctx context.Context, r *row) ([]TimelineEntry, error) {
	rows, err := o.db.Query(ctx, `SELECT at, took, worker, attempt, call, class, step, error, trace_id FROM slipway.saga_journal
		WHERE saga_id = $1 ORDER BY at`, r.ID)
	if err != nil {
		return nil, fmt.Errorf("read journal of saga %s: %w", r.ID, err)
	}
	entries := []TimelineEntry{}
	var e TimelineEntry
	var call saga.CallKind
	var class saga.Class
	_, err = pgx.ForEachRow(rows, []any{&e.At, &e.Took, &e.Worker, &e.Attempt, &call, &class, &e.Step, &e.Error, &e.TraceID}, func() error {
		e.At, e.Call, e.Class = e.At.Add(-r.Adjust), call.String(), class.String()
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read journal of saga %s: %w", r.ID, err)
	}
	return entries, nil
}

func (o *Operator) signals(ctx context.Context, id uuid.UUID) ([]WaitingSignal, error) {
	rows, err := o.db.Query(ctx, "SELECT at, name, payload FROM slipway.saga_signal WHERE saga_id = $1 ORDER BY id", id)
	if err != nil {
		return nil, fmt.Errorf("read signals of saga %s: %w", id, err)
	}
	signals, err := pgx.CollectRows(rows, pgx.RowToStructByPos[WaitingSignal])
	if err != nil {
		return nil, fmt.Errorf("read signals of saga %s: %w", id, err)
	}
	return signals, nil
}

// position tells how far each step is. What is undone has no record of where it turned
// back; its journal has.
func (r *row) position(p saga.Plan, timeline []TimelineEntry) []PlannedStep {
	succeeded := map[string]bool{} // by step, of those that were called
	for _, e := range timeline {
		succeeded[e.Step] = succeeded[e.Step] || e.Class == saga.ClassOK.String()
	}
	i, err := r.instance(p)
	status := saga.Status(r.Status)
	var steps []PlannedStep
	for stage, group := range p.Stages {
		for n, s := range group.Steps {
			v := PlannedStep{Stage: stage + 1, Name: s.Name, Kind: s.Kind, Undo: s.Undo}
			switch {
			case stage == i.Stage && !status.Final() && err == nil:
				v.at(i.Steps[n], status)
				v.NotBefore = r.shown(v.NotBefore)
			case stage < int(r.Stage) || status == saga.Completed:
				v.State = saga.StepDone.String()
			case r.Backward:
				v.State = turned(s, succeeded)
			}
			steps = append(steps, v)
		}
	}
	return steps
}

// at is for a step at hand.
func (v *PlannedStep) at(p saga.Progress, status saga.Status) {
	v.Current, v.State, v.Attempts, v.Unknown = true, p.State.String(), p.Attempts, p.Unknown
	open := p.State == saga.StepPending || p.State == saga.StepVerifying || p.State == saga.StepUndoing
	if open && status != saga.NeedsOperator {
		v.NotBefore = optional(p.NotBefore)
	}
}

// turned returns what has become of a step of a saga that has come past it on its way back.
func turned(s saga.PlanStep, succeeded map[string]bool) string {
	done, called := succeeded[s.Name]
	_, undone := succeeded[s.Undo]
	switch {
	case undone:
		return saga.StepUndone.String()
	case done:
		return saga.StepDone.String()
	case called:
		return saga.StepFailed.String()
	}
	return ""
}
