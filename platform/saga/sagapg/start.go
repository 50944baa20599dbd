package sagapg

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/propagation"

	"github.com/slipwayhq/slipway/platform/postgres"
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

const (
	// insertDue leaves the saga to whoever claims it first.
	insertDue = `INSERT INTO slipway.saga (id, definition, data, headers, created_at, updated_at, next_run_at, deadline)
SELECT $1, d.id, $4, $5, t.now, t.now, t.now, t.now + $6::interval
FROM slipway.saga_definition d, (SELECT coalesce($7::timestamptz, ` + now + `) AS now) t WHERE d.name = $2 AND d.version = $3
ON CONFLICT (id) DO NOTHING`

	// insertOwned is for a process that runs it itself.
	insertOwned = `INSERT INTO slipway.saga (id, definition, data, headers, created_at, updated_at, deadline, owner, token)
VALUES ($1, $2, $3, $4, $5, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING`
)

// Start stores a new saga with one statement in the caller's transaction: it runs if and
// only if that commits. Call begin after the commit, and r, if it has a place free, runs the
// saga at once; without begin, as after a crash, or without a runner in this process (r is
// nil), another one takes it. id is a UUID of the caller's, best that of what the saga is
// about; ErrExists, which leaves the transaction usable, says that such a saga runs
// already. The trace context and the correlation id of ctx stay with the saga.
func Start[S any](ctx context.Context, tx pgx.Tx, r *Runner, d *saga.Definition[S], id string, state S) (begin func(), err error) {
	s, err := newStart(ctx, d, id, state)
	if err != nil {
		return nil, err
	}
	if t, def := r.place(s.plan); t != nil {
		return s.own(ctx, tx, t, def)
	}
	if err := s.leave(ctx, tx, r.now()); err != nil {
		return nil, err
	}
	return r.Wake, nil
}

// Launch stores a new saga that no business change goes with, and runs it. It returns when
// the saga is stored; sagas that are launched together share a commit. It needs a runner. The
// rest is as with [Start].
func Launch[S any](ctx context.Context, r *Runner, d *saga.Definition[S], id string, state S) error {
	if r == nil {
		return errors.New("launch saga: no runner: use Start, which needs none")
	}
	s, err := newStart(ctx, d, id, state)
	if err != nil {
		return err
	}
	t, def := r.place(s.plan)
	if t == nil {
		err := postgres.InTx(ctx, r.db, postgres.TxOptions{}, func(tx pgx.Tx) error { return s.leave(ctx, tx, r.now()) })
		r.Wake()
		return err
	}
	c, err := s.claim(t, def)
	if err != nil {
		return err
	}
	return t.launch(c, s.headers)
}

func newStart[S any](ctx context.Context, d *saga.Definition[S], id string, state S) (*started, error) {
	plan, err := d.Plan()
	if err != nil {
		return nil, err
	}
	s := &started{plan: plan, carrier: origin(ctx)}
	if s.id, err = uuid.Parse(id); err != nil {
		return nil, fmt.Errorf("start saga %s: id %q is not a UUID", plan.Name, id)
	}
	if s.data, err = json.Marshal(state); err != nil {
		return nil, fmt.Errorf("start saga %s: encode state: %w", plan.Name, err)
	}
	headers, err := json.Marshal(s.carrier)
	if err != nil {
		return nil, fmt.Errorf("start saga %s: encode headers: %w", plan.Name, err)
	}
	s.headers = string(headers)
	return s, nil
}

// started is a saga that is being started.
type started struct {
	plan    saga.Plan
	id      uuid.UUID
	data    []byte
	headers string
	carrier propagation.MapCarrier
}

// claim is the saga as one of this process.
func (s *started) claim(t *term, def *definition) (*claimed, error) {
	token, err := newToken()
	if err != nil {
		return nil, err
	}
	c := &claimed{id: s.id, token: token, def: def, data: s.data, headers: s.carrier, created: t.worker.clock.now()}
	if s.plan.Timeout > 0 {
		c.instance.Deadline = c.created.Add(s.plan.Timeout)
	}
	return c, nil
}

// own stores the saga as one of this process.
func (s *started) own(ctx context.Context, tx pgx.Tx, t *term, def *definition) (begin func(), err error) {
	c, err := s.claim(t, def)
	if err != nil {
		return nil, err
	}
	tag, err := tx.Exec(ctx, insertOwned, s.id, def.id, s.data, s.headers, c.created, optional(c.instance.Deadline), t.worker.id, c.token)
	switch {
	case err != nil:
		return nil, fmt.Errorf("start saga %s: %w", s.plan.Name, missing(err))
	case tag.RowsAffected() == 0:
		return nil, fmt.Errorf("start saga %s %s: %w", s.plan.Name, s.id, ErrExists)
	}
	return func() { t.adopt(c) }, nil
}

// leave stores the saga for whoever comes first. now is nil where the database has to be asked.
func (s *started) leave(ctx context.Context, tx pgx.Tx, now *time.Time) error {
	var timeout any
	if s.plan.Timeout > 0 {
		timeout = s.plan.Timeout
	}
	for registered := false; ; registered = true {
		tag, err := tx.Exec(ctx, insertDue, s.id, s.plan.Name, s.plan.Version, s.data, s.headers, timeout, now)
		switch {
		case err != nil:
			return fmt.Errorf("start saga %s: %w", s.plan.Name, missing(err))
		case tag.RowsAffected() == 1:
			return nil
		case registered:
			return fmt.Errorf("start saga %s %s: %w", s.plan.Name, s.id, ErrExists)
		}
		if _, err := register(ctx, tx, s.plan); err != nil {
			return err
		}
	}
}

// Signal stores a signal for a saga in the caller's transaction. The saga takes it when it
// waits for that name, also if it does so only later; call [Runner.Wake] after the commit
// and it does so at once. One that is not taken goes with its saga; one for a saga that is
// over, or that never was, is dropped after an hour.
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
