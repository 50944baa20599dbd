package sagapg

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/saga"
)

//go:embed migrations
var migrations embed.FS

// Migrations returns the tables of sagas, in the schema slipway.
func Migrations() migrate.Component {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the folder is part of the binary
	}
	return migrate.Component{Name: "saga", FS: dir}
}

var (
	// ErrExists is in the error of a Start with the id of a saga that is not over.
	ErrExists = errors.New("a saga with this id runs already")
	// ErrFenced is in the error of a step whose process no longer runs the saga.
	ErrFenced = errors.New("another process runs this saga")
)

// now is the time of sagas: the database's clock without its jumps.
const now = "(clock_timestamp() + (SELECT adjust FROM slipway.saga_clock))"

const insertSaga = `INSERT INTO slipway.saga (id, definition, data, headers, created_at, updated_at, next_run_at, deadline)
SELECT $1, d.id, $4, $5, t.now, t.now, t.now, t.now + $6::interval
FROM slipway.saga_definition d, (SELECT ` + now + ` AS now) t WHERE d.name = $2 AND d.version = $3
ON CONFLICT (id) DO NOTHING`

// Start stores a new saga with one statement in the caller's transaction: it runs if and
// only if that commits, on whichever process is free first. Call [Runner.Wake] after the
// commit and it begins at once. id is a UUID of the caller's, best that of what the saga is
// about; ErrExists, which leaves the transaction usable, says that such a saga runs
// already. The trace context and the correlation id of ctx stay with the saga.
func Start[S any](ctx context.Context, tx pgx.Tx, d *saga.Definition[S], id string, state S) error {
	plan, err := d.Plan()
	if err != nil {
		return err
	}
	key, err := uuid.Parse(id)
	if err != nil {
		return fmt.Errorf("start saga %s: id %q is not a UUID", plan.Name, id)
	}
	data, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("start saga %s: encode state: %w", plan.Name, err)
	}
	headers, err := json.Marshal(origin(ctx))
	if err != nil {
		return fmt.Errorf("start saga %s: encode headers: %w", plan.Name, err)
	}
	var timeout any
	if plan.Timeout > 0 {
		timeout = plan.Timeout
	}
	for registered := false; ; registered = true {
		tag, err := tx.Exec(ctx, insertSaga, key, plan.Name, plan.Version, data, string(headers), timeout)
		switch {
		case err != nil:
			return fmt.Errorf("start saga %s: %w", plan.Name, missing(err))
		case tag.RowsAffected() == 1:
			return nil
		case registered:
			return fmt.Errorf("start saga %s %s: %w", plan.Name, id, ErrExists)
		}
		if _, err := register(ctx, tx, plan); err != nil {
			return err
		}
	}
}

// Signal stores a signal for a saga in the caller's transaction. The saga takes it when it
// waits for that name, also if it does so only later; call [Runner.Wake] after the commit
// and it does so at once. A signal for a saga that is over, or that never was, is dropped
// after the retention.
func Signal(ctx context.Context, tx pgx.Tx, sagaID, name string, payload []byte) error {
	key, err := uuid.Parse(sagaID)
	if err != nil {
		return fmt.Errorf("signal saga: id %q is not a UUID", sagaID)
	}
	if payload == nil {
		payload = []byte{}
	}
	_, err = tx.Exec(ctx, "INSERT INTO slipway.saga_signal (saga_id, name, payload) VALUES ($1, $2, $3)", key, name, payload)
	if err != nil {
		return fmt.Errorf("signal saga: %w", missing(err))
	}
	return nil
}

// Guard makes a step's own transaction valid only as long as its process runs the saga: it
// fails with ErrFenced if another process has taken over, and none does before the
// transaction ends. Call it first in the transaction of a step that works on the saga's own
// database.
func Guard(ctx context.Context, tx pgx.Tx, sagaID string, token int64) error {
	key, err := uuid.Parse(sagaID)
	if err != nil {
		return fmt.Errorf("guard step: id %q is not a UUID", sagaID)
	}
	var held bool
	err = tx.QueryRow(ctx, "SELECT true FROM slipway.saga WHERE id = $1 AND token = $2 FOR SHARE", key, token).Scan(&held)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("guard step of saga %s: %w", sagaID, ErrFenced)
	case err != nil:
		return fmt.Errorf("guard step: %w", missing(err))
	}
	return nil
}

// querier is what register needs of a pool or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

const registerDefinition = `INSERT INTO slipway.saga_definition AS d (name, version, shape, plan, stuck_after) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (name, version) DO UPDATE SET
    plan = CASE WHEN d.shape = $3 THEN $4 ELSE d.plan END, stuck_after = $5, updated_at = clock_timestamp()
RETURNING id, shape`

// register makes a definition known and returns its id. It refuses one whose steps differ
// from those that sagas of that version were started with.
func register(ctx context.Context, db querier, plan saga.Plan) (int32, error) {
	text, err := json.Marshal(plan)
	if err != nil {
		return 0, fmt.Errorf("register saga %s: %w", plan.Name, err)
	}
	var id int32
	var shape string
	err = db.QueryRow(ctx, registerDefinition, plan.Name, plan.Version, plan.Shape(), string(text), plan.StuckAfter).Scan(&id, &shape)
	if err != nil {
		return 0, fmt.Errorf("register saga %s: %w", plan.Name, missing(err))
	}
	if shape != plan.Shape() {
		return 0, fmt.Errorf("register saga %s: version %d is known with other steps: give the changed definition version %d and keep this one until its sagas are over",
			plan.Name, plan.Version, plan.Version+1)
	}
	return id, nil
}
