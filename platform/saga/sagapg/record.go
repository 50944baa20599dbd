package sagapg

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
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

// link returns a connection for one writer.
func (j *journal) link() *link { return &link{db: j.db, settings: journalPlans} }

// put returns when a record is stored, or errRefused, or why it could not be.
func (j *journal) put(r *record) error {
	j.records <- r
	return <-r.stored
}

// run stores until the channel is closed.
func (j *journal) run() {
	var group sync.WaitGroup
	for range writers {
		group.Go(j.write)
	}
	group.Wait()
}

// write stores what no other writer has taken. A saga waits for its record, so no two of one
// run are stored at once.
func (j *journal) write() {
	ctx := context.Background() // what is in hand is stored, whoever stops
	link := j.link()
	defer link.close(ctx)
	for r := range j.records {
		batch := []*record{r}
		for more := true; more && len(batch) < maxBatch; {
			select {
			case next, open := <-j.records:
				if more = open; open {
					batch = append(batch, next)
				}
			default:
				more = false
			}
		}
		j.persist(ctx, link, batch)
	}
}

// persist stores a batch, however often it takes while the worker is one. A record that
// cannot be stored fails alone.
func (j *journal) persist(ctx context.Context, link *link, batch []*record) {
	pause := 50 * time.Millisecond
	for again := false; ; again = true {
		kept, err := j.store(ctx, link, batch, again)
		if err != nil && postgres.IsUnavailable(err) && j.worker.trust.holds() {
			wait(ctx, pause)
			pause = min(2*pause, time.Second)
			continue
		}
		if err != nil && !postgres.IsUnavailable(err) && len(batch) > 1 {
			for _, r := range batch {
				j.persist(ctx, link, []*record{r})
			}
			return
		}
		j.answer(batch, kept, err)
		return
	}
}

// answer tells each record what has become of it.
func (j *journal) answer(batch []*record, kept map[claim]bool, err error) {
	j.metrics.batch.Observe(float64(len(batch)))
	for _, r := range batch {
		switch {
		case err != nil:
			r.stored <- err
		case !kept[claim{r.id, r.token}]:
			if r.launched == nil {
				j.metrics.refused.Inc()
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

	// findLaunched is for launches that are stored again, because nobody knows whether they were.
	findLaunched = `SELECT s.id, s.token FROM unnest($1::uuid[], $2::bigint[]) AS t (id, token)
JOIN slipway.saga s ON s.id = t.id AND s.token = t.token`

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
SELECT $1, u.* FROM unnest($2::timestamptz[], $3::interval[], $4::int[], $5::smallint[], $6::smallint[], $7::uuid[], $8::text[], $9::text[], $10::text[]) u`
)

// store writes a batch in one transaction and one round trip, and returns whose records
// were kept. Attempts are journaled also where a record is refused: they were made. When it
// is stored again the batch may have been stored before.
func (j *journal) store(ctx context.Context, link *link, batch []*record, again bool) (kept map[claim]bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	conn, err := link.get(ctx)
	if err != nil {
		return nil, err
	}
	at := j.worker.clock.now()
	kept = make(map[claim]bool, len(batch))
	collect := func(rows pgx.Rows) error {
		var c claim
		_, err := pgx.ForEachRow(rows, []any{(*[16]byte)(&c.id), &c.token}, func() error {
			kept[c] = true
			return nil
		})
		return err
	}
	var b pgx.Batch
	if l := launchedOf(batch); len(l.id) > 0 {
		if again {
			b.Queue(findLaunched, l.id, l.token).Query(collect)
		}
		b.Queue(launchSagas, j.worker.id, l.id, l.token, l.data, l.deadline, l.definition, l.headers, l.at).Query(collect)
	}
	if p := progressOf(batch); len(p.id) > 0 {
		b.Queue(updateSagas, j.worker.id, at, p.id, p.token, p.stage, p.status, p.backward, p.steps, p.data, p.failingSince,
			p.reason, p.problem, p.waitsFor, p.release, p.next, p.took).Query(collect)
	}
	if f := finishedOf(batch); len(f.id) > 0 {
		b.Queue(finishSagas, j.worker.id, at, f.id, f.token, f.stage, f.status, f.backward, f.data, f.reason, f.problem).Query(collect)
	}
	if a := attemptsOf(batch); len(a.id) > 0 {
		b.Queue(insertAttempts, j.worker.id, a.at, a.took, a.attempt, a.call, a.class, a.id, a.step, a.error, a.traceID)
	}
	reach(failpoint.BeforeRecord, batch)
	if err := conn.SendBatch(ctx, &b).Close(); err != nil {
		return nil, fmt.Errorf("store progress of sagas: %w", missing(err))
	}
	reach(failpoint.AfterRecord, batch)
	return kept, nil
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

// columns are records as statements take them, in types that need no reflection: a journal
// encodes thousands a second.
type columns struct {
	id                [][16]byte
	token, took       []int64
	stage, status     []int16
	backward, release []bool
	steps, data       [][]byte
	failingSince      pgtype.FlatArray[pgtype.Timestamptz]
	next              pgtype.FlatArray[pgtype.Timestamptz]
	reason, problem   []string
	waitsFor          pgtype.FlatArray[pgtype.Text]
}

func (c *columns) add(r *record) {
	i := r.instance
	c.id, c.token, c.took = append(c.id, r.id), append(c.token, r.token), append(c.took, r.took)
	c.stage, c.status = append(c.stage, int16(i.Stage)), append(c.status, int16(i.Status))
	c.backward, c.release = append(c.backward, i.Backward), append(c.release, r.release)
	c.steps, c.data = append(c.steps, r.steps), append(c.data, r.data)
	c.failingSince, c.next = append(c.failingSince, timeOf(i.FailingSince)), append(c.next, timeOf(r.next))
	c.reason, c.problem = append(c.reason, i.Reason), append(c.problem, i.Problem)
	c.waitsFor = append(c.waitsFor, pgtype.Text{String: r.waitsFor, Valid: r.waitsFor != ""})
}

// launches are new sagas as the statement takes them.
type launches struct {
	id         [][16]byte
	token      []int64
	data       [][]byte
	deadline   pgtype.FlatArray[pgtype.Timestamptz]
	definition []int32
	headers    []string
	at         []time.Time
}

func launchedOf(batch []*record) (l launches) {
	for _, r := range batch {
		if r.launched != nil {
			l.id, l.token, l.data = append(l.id, r.id), append(l.token, r.token), append(l.data, r.data)
			l.deadline, l.definition = append(l.deadline, timeOf(r.instance.Deadline)), append(l.definition, r.launched.definition)
			l.headers, l.at = append(l.headers, r.launched.headers), append(l.at, r.launched.at)
		}
	}
	return l
}

func progressOf(batch []*record) (c columns) {
	for _, r := range batch {
		if !r.finished && r.launched == nil {
			c.add(r)
		}
	}
	return c
}

func finishedOf(batch []*record) (c columns) {
	for _, r := range batch {
		if r.finished {
			c.add(r)
		}
	}
	return c
}

// attempts are lines of the journal as the statement takes them.
type attempts struct {
	at                   []time.Time
	took                 pgtype.FlatArray[pgtype.Interval]
	attempt              []int32
	call, class          []int16
	id                   [][16]byte
	step, error, traceID []string
}

func attemptsOf(batch []*record) (a attempts) {
	for _, r := range batch {
		for _, t := range r.attempts {
			took := pgtype.Interval{Microseconds: t.took.Microseconds(), Valid: true}
			a.at, a.took, a.attempt = append(a.at, t.at), append(a.took, took), append(a.attempt, int32(t.command.Attempt))
			a.call, a.class = append(a.call, int16(t.command.Kind)), append(a.class, int16(t.class))
			a.id, a.step = append(a.id, r.id), append(a.step, t.step)
			a.error, a.traceID = append(a.error, t.error), append(a.traceID, t.traceID)
		}
	}
	return a
}

// timeOf returns NULL for a zero time.
func timeOf(t time.Time) pgtype.Timestamptz { return pgtype.Timestamptz{Time: t, Valid: !t.IsZero()} }

// optional returns nil, which is NULL, for a zero value.
func optional[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}
