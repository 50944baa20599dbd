package sagapg

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/propagation"

	"github.com/slipwayhq/slipway/platform/failpoint"
	"github.com/slipwayhq/slipway/platform/saga"
)

// claimed is a saga that this process has taken to run.
type claimed struct {
	id       uuid.UUID
	token    int64
	def      *definition
	instance saga.Instance
	begun    bool
	lost     int   // how often it was taken over since it got on, this time included
	broken   error // why the definition cannot go on with what is stored
	data     []byte
	headers  propagation.MapCarrier
	waitsFor string
	signal   *signal
	created  time.Time
}

// signal is one that a saga waits for.
type signal struct {
	id      int64
	payload []byte
}

// The first %d is how many of each definition: one with many sagas does not hold up the
// others. LIMIT is a literal, or the plan could be a sort of all that wait. What a dead
// worker leaves comes first, then what is due, then what a signal has come for. A worker that
// was taken for dead gets nothing. A claim that a crash of the database undoes harms nobody,
// so nobody waits for the disk.
const claimSQL = `WITH orphaned AS MATERIALIZED (
    SELECT s.id FROM slipway.saga s WHERE s.owner = ANY ($1::bigint[]) AND s.definition = ANY ($2::int[])
    LIMIT %[1]d FOR UPDATE SKIP LOCKED),
due AS MATERIALIZED (
    SELECT d.id FROM unnest($2::int[]) k (definition) CROSS JOIN LATERAL (
        SELECT s.id FROM slipway.saga s WHERE s.definition = k.definition AND s.next_run_at <= $3
        ORDER BY s.next_run_at LIMIT %[2]d FOR UPDATE SKIP LOCKED) d),
signaled AS MATERIALIZED (
    SELECT s.id FROM slipway.saga_signal g JOIN slipway.saga s ON s.id = g.saga_id
    WHERE s.owner IS NULL AND s.waits_for = g.name AND s.failing_since IS NULL AND s.definition = ANY ($2::int[]) AND s.next_run_at > $3
    LIMIT %[2]d FOR UPDATE OF s SKIP LOCKED)
UPDATE slipway.saga s SET owner = $4, token = $5, next_run_at = NULL, claims = s.claims + CASE WHEN f.lost THEN 1 ELSE 0 END
FROM (SELECT id, bool_or(lost) AS lost FROM (SELECT id, true AS lost FROM orphaned UNION ALL SELECT id, false FROM due
    UNION ALL SELECT id, false FROM signaled) u GROUP BY id) f
WHERE s.id = f.id AND EXISTS (SELECT FROM slipway.saga_worker WHERE id = $4 AND ended_at IS NULL)
RETURNING s.id, s.definition, s.claims, s.stage, s.status, s.backward, s.steps, s.data, s.deadline, s.failing_since,
    s.reason, s.problem, s.headers, s.waits_for, s.created_at`

// claim takes about as many sagas as are free, of those that may be run now.
func (t *term) claim(ctx context.Context, free int) ([]*claimed, error) {
	r, w := t.r, t.worker
	token, err := newToken()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	conn, err := t.claims.get(ctx)
	if err != nil {
		return nil, err
	}
	each := (free + len(r.ids) - 1) / len(r.ids)
	rows, err := conn.Query(ctx, fmt.Sprintf(claimSQL, free, each), w.deadWorkers(), r.ids, w.clock.now(), w.id, token)
	if err != nil {
		return nil, fmt.Errorf("claim sagas: %w", missing(err))
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*claimed, error) { return r.scan(row, token) })
	if err != nil {
		return nil, fmt.Errorf("claim sagas: %w", missing(err))
	}
	if len(all) > 0 {
		failpoint.At(failpoint.AfterClaim, all[0].def.plan.Name)
	}
	return all, t.readSignals(ctx, conn, all)
}

// scan reads a claimed saga. One that its definition cannot make sense of is claimed all
// the same: its run reports it.
func (r *Runner) scan(row pgx.CollectableRow, token int64) (*claimed, error) {
	c := &claimed{token: token}
	var definition, claims int32
	var stage, status int16
	var steps []byte
	var deadline, failingSince *time.Time
	var headers string
	var waitsFor *string
	i := &c.instance
	err := row.Scan(&c.id, &definition, &claims, &stage, &status, &i.Backward, &steps, &c.data, &deadline, &failingSince,
		&i.Reason, &i.Problem, &headers, &waitsFor, &c.created)
	if err != nil {
		return nil, err
	}
	c.def, c.headers = r.definitions[definition], decodeHeaders(headers)
	i.Stage, i.Status = int(stage), saga.Status(status)
	if deadline != nil {
		i.Deadline = *deadline
	}
	if failingSince != nil {
		i.FailingSince = *failingSince
	}
	c.lost = int(claims)
	if waitsFor != nil {
		c.waitsFor = *waitsFor
	}
	if c.begun = stage >= 0; c.begun {
		c.broken = i.DecodeSteps(c.def.plan, steps)
	}
	return c, nil
}

const signalsOfSagas = `SELECT DISTINCT ON (saga_id) saga_id, id, payload FROM slipway.saga_signal g
JOIN unnest($1::uuid[], $2::text[]) w (saga, name) ON g.saga_id = w.saga AND g.name = w.name ORDER BY saga_id, id`

// readSignals reads what the sagas wait for, as far as it is there.
func (t *term) readSignals(ctx context.Context, conn *pgx.Conn, all []*claimed) error {
	waiting := map[uuid.UUID]*claimed{}
	var ids []uuid.UUID
	var names []string
	for _, c := range all {
		if c.waitsFor != "" {
			waiting[c.id] = c
			ids, names = append(ids, c.id), append(names, c.waitsFor)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	rows, err := conn.Query(ctx, signalsOfSagas, ids, names)
	if err != nil {
		return fmt.Errorf("read signals of sagas: %w", err)
	}
	var id uuid.UUID
	var s signal
	_, err = pgx.ForEachRow(rows, []any{&id, &s.id, &s.payload}, func() error {
		waiting[id].signal = &signal{s.id, s.payload}
		s.payload = nil
		return nil
	})
	if err != nil {
		return fmt.Errorf("read signals of sagas: %w", err)
	}
	return nil
}

// newToken returns a token that no claim ever had.
func newToken() (int64, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, fmt.Errorf("draw token: %w", err)
	}
	return int64(binary.BigEndian.Uint64(b[:]) >> 1), nil
}

func decodeHeaders(text string) propagation.MapCarrier {
	headers := propagation.MapCarrier{}
	_ = json.Unmarshal([]byte(text), &headers) // written by Start
	return headers
}
