package sagapg

import (
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// sheet is a batch of records as the statements take it: by columns, in types that need no
// reflection, because a journal encodes thousands a second. It is filled again and again.
type sheet struct {
	launched           launches
	progress, finished columns
	attempts           attempts
}

func (s *sheet) fill(batch []*record) {
	s.launched.clear()
	s.progress.clear()
	s.finished.clear()
	s.attempts.clear()
	for _, r := range batch {
		switch {
		case r.launched != nil:
			s.launched.add(r)
		case r.finished:
			s.finished.add(r)
		default:
			s.progress.add(r)
		}
		for i := range r.attempts {
			s.attempts.add(r, &r.attempts[i])
		}
	}
}

type (
	uuids      = pgtype.FlatArray[pgtype.UUID]
	timestamps = pgtype.FlatArray[pgtype.Timestamptz]
)

func idOf(id uuid.UUID) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: true} }

// timeOf returns NULL for a zero time.
func timeOf(t time.Time) pgtype.Timestamptz { return pgtype.Timestamptz{Time: t, Valid: !t.IsZero()} }

// columns are records of sagas that are there.
type columns struct {
	id                 uuids
	token, took        []int64
	stage, status      []int16
	backward, release  []bool
	steps, data        [][]byte
	failingSince, next timestamps
	reason, problem    []string
	waitsFor           pgtype.FlatArray[pgtype.Text]
}

func (c *columns) clear() {
	*c = columns{
		id: c.id[:0], token: c.token[:0], took: c.took[:0], stage: c.stage[:0], status: c.status[:0], backward: c.backward[:0],
		release: c.release[:0], steps: c.steps[:0], data: c.data[:0], failingSince: c.failingSince[:0], next: c.next[:0],
		reason: c.reason[:0], problem: c.problem[:0], waitsFor: c.waitsFor[:0],
	}
}

func (c *columns) add(r *record) {
	i := &r.instance
	c.id, c.token, c.took = append(c.id, idOf(r.id)), append(c.token, r.token), append(c.took, r.took)
	c.stage, c.status = append(c.stage, int16(i.Stage)), append(c.status, int16(i.Status))
	c.backward, c.release = append(c.backward, i.Backward), append(c.release, r.release)
	c.steps, c.data = append(c.steps, r.steps), append(c.data, r.data)
	c.failingSince, c.next = append(c.failingSince, timeOf(i.FailingSince)), append(c.next, timeOf(r.next))
	c.reason, c.problem = append(c.reason, i.Reason), append(c.problem, i.Problem)
	c.waitsFor = append(c.waitsFor, pgtype.Text{String: r.waitsFor, Valid: r.waitsFor != ""})
}

// launches are new sagas.
type launches struct {
	id         uuids
	token      []int64
	data       [][]byte
	deadline   timestamps
	definition []int32
	headers    []string
	at         timestamps
}

func (l *launches) clear() {
	*l = launches{
		id: l.id[:0], token: l.token[:0], data: l.data[:0], deadline: l.deadline[:0], definition: l.definition[:0],
		headers: l.headers[:0], at: l.at[:0],
	}
}

func (l *launches) add(r *record) {
	l.id, l.token, l.data = append(l.id, idOf(r.id)), append(l.token, r.token), append(l.data, r.data)
	l.deadline, l.definition = append(l.deadline, timeOf(r.instance.Deadline)), append(l.definition, r.launched.definition)
	l.headers, l.at = append(l.headers, r.launched.headers), append(l.at, timeOf(r.launched.at))
}

// attempts are lines of the journal.
type attempts struct {
	at                   timestamps
	took                 pgtype.FlatArray[pgtype.Interval]
	attempt              []int32
	call, class          []int16
	id                   uuids
	step, error, traceID []string
}

func (a *attempts) clear() {
	*a = attempts{
		at: a.at[:0], took: a.took[:0], attempt: a.attempt[:0], call: a.call[:0], class: a.class[:0], id: a.id[:0],
		step: a.step[:0], error: a.error[:0], traceID: a.traceID[:0],
	}
}

func (a *attempts) add(r *record, t *attempt) {
	took := pgtype.Interval{Microseconds: t.took.Microseconds(), Valid: true}
	a.at, a.took, a.attempt = append(a.at, timeOf(t.at)), append(a.took, took), append(a.attempt, int32(t.command.Attempt))
	a.call, a.class = append(a.call, int16(t.command.Kind)), append(a.class, int16(t.class))
	a.id, a.step = append(a.id, idOf(r.id)), append(a.step, t.step)
	a.error, a.traceID = append(a.error, t.error), append(a.traceID, t.traceID)
}
