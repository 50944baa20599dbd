package sagapg

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipwayhq/slipway/platform/failpoint"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/saga"
)

// record is what is stored of a saga after something has happened to it.
type record struct {
	id       uuid.UUID
	token    int64
	instance saga.Instance
	steps    []byte
	data     []byte // nil if unchanged
	finished bool
	release  bool // the saga is left to whoever comes at next
	next     time.Time
	waitsFor string
	took     int64 // the signal that was taken; 0 for none
	attempts []attempt
	launched *launched // for one that is not there yet

	stored chan error // nil, errRefused or why it could not be stored
}

// claim is a saga in the hands of one run: after an operator's action two may have it, and
// only the record of one is kept.
type claim struct {
	id    uuid.UUID
	token int64
}

// launched is what only a new saga has.
type launched struct {
	definition int32
	headers    string
	at         time.Time
}

// attempt is a line of the journal.
type attempt struct {
	at      time.Time
	took    time.Duration
	command saga.Command
	class   saga.Class
	step    string
	error   string
	traceID string
}

// errRefused says that another process runs the saga.
var errRefused = errors.New("another process runs the saga")

// maxBatch bounds how many records share a commit.
const maxBatch = 1000

// journal stores records: those that come while commits are on their way share the next one.
// That is what makes many sagas at once cheap.
type journal struct {
	db      *pgxpool.Pool
	worker  *worker
	metrics *metrics
	records chan *record
}

// writers is how many commits may be on their way: while one waits for the disk the database
// works for another.
const writers = 2

func newJournal(db *pgxpool.Pool, w *worker, m *metrics) *journal {
	return &journal{db: db, worker: w, metrics: m, records: make(chan *record, maxBatch)}
}

// put returns when a record is stored, or errRefused, or why it could not be.
func (j *journal) put(r *record) error {
	j.records <- r
	return <-r.stored
}

// run stores until the channel is closed.
func (j *journal) run() {
	var group sync.WaitGroup
	for range writers {
		group.Go(j.writer().run)
	}
	group.Wait()
}

// writer stores one batch after the other. One goroutine at a time may use it.
type writer struct {
	*journal

	link  link
	sheet sheet
	batch []*record
	kept  map[claim]bool // of the batch
}

func (j *journal) writer() *writer {
	return &writer{journal: j, link: link{db: j.db, settings: journalPlans}, kept: map[claim]bool{}}
}

// run stores what no other writer has taken. A saga waits for its record, so no two of one
// run are stored at once.
func (w *writer) run() {
	ctx := context.Background() // what is in hand is stored, whoever stops
	defer w.link.close(ctx)
	for r := range w.records {
		w.batch = append(w.batch[:0], r)
		for more := true; more && len(w.batch) < maxBatch; {
			select {
			case next, open := <-w.records:
				if more = open; open {
					w.batch = append(w.batch, next)
				}
			default:
				more = false
			}
		}
		w.persist(ctx, w.batch, w.worker.clock.now(), false)
	}
}

// persist stores a batch, however often it takes while the worker is one. A record that
// cannot be stored fails alone.
func (w *writer) persist(ctx context.Context, batch []*record, at time.Time, again bool) {
	for pause := 50 * time.Millisecond; ; again = true {
		err := w.store(ctx, batch, at, again)
		if err != nil && postgres.IsUnavailable(err) && w.worker.trust.holds() {
			wait(ctx, pause)
			pause = min(2*pause, time.Second)
			continue
		}
		if err != nil && !postgres.IsUnavailable(err) && len(batch) > 1 {
			for _, r := range batch {
				w.persist(ctx, []*record{r}, at, again)
			}
			return
		}
		w.answer(batch, err)
		return
	}
}

// answer tells each record what has become of it.
func (w *writer) answer(batch []*record, err error) {
	w.metrics.batch.Observe(float64(len(batch)))
	for _, r := range batch {
		switch {
		case err != nil:
			r.stored <- err
		case !w.kept[claim{r.id, r.token}]:
			if r.launched == nil {
				w.metrics.refused.Inc()
			}
			r.stored <- errRefused
		default:
			r.stored <- nil
		}
	}
}

// A record is stored only where the saga still belongs to this worker, by this claim, and a
// signal is taken only by a record that is stored. coalesce keeps the plan off the index of
// owners, which would find all sagas of the worker for each of them.
const (
	updateSagas = `WITH kept AS (UPDATE slipway.saga s SET stage = t.stage, status = t.status, backward = t.backward, steps = t.steps,
    data = coalesce(t.data, s.data), failing_since = t.failing_since, reason = t.reason, problem = t.problem,
    claims = 0, updated_at = t.now, waits_for = t.waits_for,
    owner = CASE WHEN t.release THEN NULL ELSE s.owner END, next_run_at = t.next_run_at
FROM (SELECT $2::timestamptz AS now, u.* FROM unnest($3::uuid[], $4::bigint[], $5::smallint[], $6::smallint[], $7::bool[], $8::bytea[],
    $9::bytea[], $10::timestamptz[], $11::text[], $12::text[], $13::text[], $14::bool[], $15::timestamptz[], $16::bigint[])
    AS u (id, token, stage, status, backward, steps, data, failing_since, reason, problem, waits_for, release, next_run_at, took)) t
WHERE s.id = t.id AND s.token = t.token AND coalesce(s.owner, 0) = $1 RETURNING s.id, s.token, t.took),
taken AS (DELETE FROM slipway.saga_signal g USING kept k WHERE k.took > 0 AND g.id = k.took)
SELECT id, token FROM kept`

	launchSagas = `INSERT INTO slipway.saga (owner, id, token, data, deadline, definition, headers, created_at, updated_at)
SELECT $1, u.*, u.created_at FROM unnest($2::uuid[], $3::bigint[], $4::bytea[], $5::timestamptz[], $6::int[], $7::text[], $8::timestamptz[])
    AS u (id, token, data, deadline, definition, headers, created_at)
ON CONFLICT (id) DO NOTHING RETURNING id, token`

	finishSagas = `WITH gone AS (
    DELETE FROM slipway.saga s USING unnest($3::uuid[], $4::bigint[], $5::smallint[], $6::smallint[], $7::bool[], $8::bytea[], $9::text[], $10::text[])
        AS t (id, token, stage, status, backward, data, reason, problem)
    WHERE s.id = t.id AND s.token = t.token AND coalesce(s.owner, 0) = $1
    RETURNING s.created_at, s.definition, t.stage, t.status, t.backward, s.id, s.token, coalesce(t.data, s.data) AS data, s.headers, t.reason, t.problem),
finished AS (
    INSERT INTO slipway.saga_finished (finished_at, created_at, definition, stage, status, backward, id, data, headers, reason, problem)
    SELECT $2, created_at, definition, stage, status, backward, id, data, headers, reason, problem FROM gone),
forgotten AS (DELETE FROM slipway.saga_signal g USING gone WHERE g.saga_id = gone.id)
SELECT id, token FROM gone`

	insertAttempts = `INSERT INTO slipway.saga_journal (worker, at, took, attempt, call, class, saga_id, step, error, trace_id)
SELECT $1, u.* FROM unnest($2::timestamptz[], $3::interval[], $4::int[], $5::smallint[], $6::smallint[], $7::uuid[], $8::text[], $9::text[], $10::text[])
    AS u (at, took, attempt, call, class, saga_id, step, error, trace_id)`
)

// A batch is stored again when the answer to its commit is lost: it may be there, with the same
// time. What has left this worker's hands by it is looked for, and would be refused otherwise.
// Progress that has not can be stored twice.
const (
	findLaunched = `SELECT s.id, s.token FROM unnest($1::uuid[], $2::bigint[]) AS t (id, token)
JOIN slipway.saga s ON s.id = t.id AND s.token = t.token`

	findReleased = `SELECT s.id, s.token FROM unnest($1::uuid[], $2::bigint[], $3::bool[]) AS t (id, token, release)
JOIN slipway.saga s ON s.id = t.id AND s.token = t.token WHERE t.release AND s.owner IS NULL AND s.updated_at = $4`

	findFinished = `SELECT t.id, t.token FROM unnest($1::uuid[], $2::bigint[]) AS t (id, token)
JOIN slipway.saga_finished s ON s.id = t.id WHERE s.finished_at = $3`

	insertAttemptsAgain = insertAttempts + ` WHERE NOT EXISTS (
    SELECT FROM slipway.saga_journal j WHERE j.saga_id = u.saga_id AND j.at = u.at AND j.step = u.step)`
)

// store writes a batch in one transaction and one round trip, and notes whose records were
// kept. Attempts are journaled also where a record is refused: they were made. When it is
// stored again, for the same time, the batch may have been stored before.
func (w *writer) store(ctx context.Context, batch []*record, at time.Time, again bool) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	conn, err := w.link.get(ctx)
	if err != nil {
		return err
	}
	clear(w.kept)
	w.sheet.fill(batch)
	var b pgx.Batch
	if l := &w.sheet.launched; len(l.id) > 0 {
		if again {
			b.Queue(findLaunched, l.id, l.token).Query(w.collect)
		}
		b.Queue(launchSagas, w.worker.id, l.id, l.token, l.data, l.deadline, l.definition, l.headers, l.at).Query(w.collect)
	}
	if p := &w.sheet.progress; len(p.id) > 0 {
		if again {
			b.Queue(findReleased, p.id, p.token, p.release, at).Query(w.collect)
		}
		b.Queue(updateSagas, w.worker.id, at, p.id, p.token, p.stage, p.status, p.backward, p.steps, p.data, p.failingSince,
			p.reason, p.problem, p.waitsFor, p.release, p.next, p.took).Query(w.collect)
	}
	if f := &w.sheet.finished; len(f.id) > 0 {
		if again {
			b.Queue(findFinished, f.id, f.token, at).Query(w.collect)
		}
		b.Queue(finishSagas, w.worker.id, at, f.id, f.token, f.stage, f.status, f.backward, f.data, f.reason, f.problem).Query(w.collect)
	}
	if a := &w.sheet.attempts; len(a.id) > 0 {
		sql := insertAttempts
		if again {
			sql = insertAttemptsAgain
		}
		b.Queue(sql, w.worker.id, a.at, a.took, a.attempt, a.call, a.class, a.id, a.step, a.error, a.traceID)
	}
	reach(failpoint.BeforeRecord, batch)
	if err := conn.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("store progress of sagas: %w", missing(err))
	}
	reach(failpoint.AfterRecord, batch)
	return nil
}

// collect notes what a statement has kept.
func (w *writer) collect(rows pgx.Rows) error {
	var c claim
	_, err := pgx.ForEachRow(rows, []any{(*[16]byte)(&c.id), &c.token}, func() error {
		w.kept[c] = true
		return nil
	})
	return err
}

// reach names a record by where its saga is.
func reach(p failpoint.Point, batch []*record) {
	if !failpoint.Enabled {
		return
	}
	for _, r := range batch {
		way := "forward"
		if r.instance.Backward {
			way = "backward"
		}
		failpoint.At(p, fmt.Sprintf("%s-%s-%d", r.instance.Status, way, r.instance.Stage))
	}
}

// storeTimeout bounds a commit.
const storeTimeout = 10 * time.Second

// optional returns nil, which is NULL, for a zero value.
func optional[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}
