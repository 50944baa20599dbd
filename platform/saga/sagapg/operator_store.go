package sagapg

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/slipwayhq/slipway/platform/saga"
)

// A decision takes the saga from whoever runs it: the token of the claim is no longer valid,
// and there is no owner.
const (
	decideSaga = `UPDATE slipway.saga SET token = $2, owner = NULL, claims = 0, stage = $3, status = $4, backward = $5, steps = $6, data = $7,
    deadline = $8, failing_since = $9, next_run_at = $10, waits_for = $11, reason = $12, problem = $13, updated_at = $14 WHERE id = $1`

	decideEnd = `WITH gone AS (DELETE FROM slipway.saga WHERE id = $1 RETURNING *),
forgotten AS (DELETE FROM slipway.saga_signal g USING gone WHERE g.saga_id = gone.id)
INSERT INTO slipway.saga_finished (finished_at, created_at, definition, stage, status, backward, id, data, headers, reason, problem)
SELECT $2, created_at, definition, $3, $4, $5, id, $6, headers, $7, $8 FROM gone`

	insertAction = "INSERT INTO slipway.saga_action (saga_id, who, action, reason, detail) VALUES ($1, $2, $3, $4, $5)"
)

// store stores what was decided, with a line in the journal.
func (t *target) store(ctx context.Context, tx pgx.Tx, action string, c Change) error {
	var err error
	switch i := t.instance; {
	case t.signal != nil:
		err = Signal(ctx, tx, t.ID.String(), t.signalName, t.signal.payload)
	case i.Status.Final():
		_, err = tx.Exec(ctx, decideEnd, t.ID, t.Now, i.Stage, i.Status, i.Backward, t.Data, i.Reason, i.Problem)
	default:
		err = t.proceed(ctx, tx)
	}
	if err != nil {
		return err
	}
	detail := c.From + " -> " + c.To + t.detail
	if c.Interrupted != "" {
		detail += "; a call may have been on its way at " + c.Interrupted
	}
	_, err = tx.Exec(ctx, insertAction, t.ID, t.by.Who, action, t.by.Reason, detail)
	return err
}

// proceed leaves the saga to the next runner.
func (t *target) proceed(ctx context.Context, tx pgx.Tx) error {
	token, err := newToken()
	if err != nil {
		return err
	}
	i, next, waitsFor := t.instance, &t.Now, ""
	if i.Status == saga.NeedsOperator {
		next = nil
	}
	if i.Waiting(t.plan) {
		waitsFor = t.plan.Stages[i.Stage].Steps[0].Name
	}
	_, err = tx.Exec(ctx, decideSaga, t.ID, token, i.Stage, i.Status, i.Backward, i.EncodeSteps(), t.Data, optional(i.Deadline),
		optional(i.FailingSince), next, optional(waitsFor), i.Reason, i.Problem, t.Now)
	return err
}
